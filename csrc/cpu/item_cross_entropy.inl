// The kernels of item_cross_entropy_cpu.cpp (see there), compiled once per instruction set.
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "gemm_tile.inl"
// clang-format on

constexpr int64_t kTileItems = 72;  // 18 KB of the item table at D = 64
constexpr int64_t kMaxRows = 256;   // rows of h worked on together: 64 KB, and so is a d loss / d h
// Tiles are dealt to the threads in blocks, whatever the number of threads. Each block has sums of
// its own, which cost about as much as one of its tiles.
constexpr int64_t kBlockTiles = 10;
constexpr int64_t kMaxBlocks = 32;
constexpr int64_t kStoreBytes = int64_t{64} << 20;
template <class T>
constexpr T kLog2e = T(1.44269504088896340736);
// Beyond this size of a row's largest logit its product with 1 / ln 2 is rounded by powers of two.
template <class T>
constexpr T kHuge = sizeof(T) == 4 ? T(1 << 29) : T(int64_t{1} << 58);

// One chunk of at most kMaxRows rows against all items: R rows, D' and R' are D
// and R rounded up to whole register tiles of kCols columns.
template <class T>
struct Chunk {
  static constexpr int kCols = kTileCols<T>;
  const ItemCrossEntropyParams<T>& params;
  int64_t rows = 0, padded_rows = 0, padded_hidden = 0;
  int64_t tiles = 0, blocks = 0;
  int64_t stride = 0;                // between the items of a tile in `exps`
  const T* h = nullptr;              // [R, D] this chunk's rows
  const int64_t* targets = nullptr;  // [R]
  bool first = true;  // the item gradient is stored by the first chunk, added to by the others

  // A logit x enters as 2^(x / ln 2 - shift), where shift is the running row maximum / ln 2; where
  // logits are huge, as 2^((x - shift) / ln 2), shift being the maximum itself. The target's own
  // logit is left out of all of these (see join_row).
  bool huge = false;
  T to_shift() const { return huge ? T(1) : kLog2e<T>; }
  T of_shift() const { return huge ? kLog2e<T> : T(1); }
  T* h_panels = nullptr;          // [R' / kCols, D, kCols] h, transposed in panels
  T* exps = nullptr;              // [tiles or workers, kTileItems, stride] exponentials
  T* tile_shift = nullptr;        // [tiles, R'] the shift of each tile
  T* block_max = nullptr;         // [blocks, R'] the running maximum of a block of tiles
  T* block_sum = nullptr;         // [blocks, R'] sum of exponentials, under block_shift
  T* block_shift = nullptr;       // [blocks, R']
  T* block_grad = nullptr;        // [blocks, R', D'] sum of exponential * item
  T* row_shift = nullptr;         // [R'] the largest of all logits / ln 2
  T* row_scale = nullptr;         // [R'] 1 / (sum * B), the sum under row_shift with the target
  T* target_logit = nullptr;      // [R']
  T* target_grad = nullptr;       // [R'] d loss / d target_logit = (softmax - 1) / B
  double* row_loss = nullptr;     // [R']
  int64_t* order = nullptr;       // [R] rows, by the tile of their target, then by number
  int64_t* tile_order = nullptr;  // [tiles + 1] where each tile's rows begin in `order`
  T* item_copy = nullptr;         // [workers, kTileItems, D']
  T* scaled_h = nullptr;          // [workers, D' / kCols, R, kCols] h, each row times the factor
                                  // that makes a tile's exponentials softmax / B
  T* grad_tile = nullptr;         // [workers, kTileItems, D']

  int64_t first_tile(int64_t block) const { return block * tiles / blocks; }
  int64_t tile_items(int64_t tile) const {
    return std::min(kTileItems, params.classes - tile * kTileItems);
  }
  bool unpadded() const { return padded_hidden == params.hidden; }
  // Register tiles of a product that has a tile's items for rows.
  int64_t item_groups(int64_t tile) const { return ceil_div(tile_items(tile), kTileRows); }
};

// Fetches the part of the tile behind `tile`, in as many shares, of an array with a row of `stride`
// elements for each item.
template <class T>
PrefetchShares tile_ahead(const Chunk<T>& chunk, int64_t tile, const T* rows, int64_t stride,
                          int64_t shares) {
  if (++tile >= chunk.tiles) return PrefetchShares(rows, 0, shares);
  return PrefetchShares(rows + tile * kTileItems * stride, chunk.tile_items(tile) * stride, shares);
}

// Rows of the item table, padded to whole register tiles.
template <class T>
struct ItemRows {
  const T* data;  // [count, stride]
  int64_t stride;
  int64_t count;
};

template <class T>
ItemRows<T> item_rows(const Chunk<T>& chunk, int64_t tile, int worker) {
  const int64_t hidden = chunk.params.hidden, count = chunk.tile_items(tile);
  const T* from = chunk.params.items + tile * kTileItems * hidden;
  if (chunk.unpadded()) return {from, hidden, count};
  T* copy = chunk.item_copy + worker * kTileItems * chunk.padded_hidden;
  for (int64_t v = 0; v < count; ++v) {
    T* to = copy + v * chunk.padded_hidden;
    std::copy(from + v * hidden, from + (v + 1) * hidden, to);
    std::fill(to + hidden, to + chunk.padded_hidden, T(0));
  }
  return {copy, chunk.padded_hidden, count};
}

// h transposed into panels of kCols rows; rows beyond R are zero.
template <class T>
void pack_rows(const Chunk<T>& chunk) {
  constexpr int kCols = kTileCols<T>;
  const int64_t hidden = chunk.params.hidden;
  for (int64_t row = 0; row < chunk.padded_rows; ++row) {
    T* to = chunk.h_panels + row / kCols * kCols * hidden + row % kCols;
    for (int64_t d = 0; d < hidden; ++d) {
      to[d * kCols] = row < chunk.rows ? chunk.h[row * hidden + d] : T(0);
    }
  }
}

// Counting sort of the rows by the tile that holds their target.
template <class T>
void sort_targets(const Chunk<T>& chunk) {
  std::fill(chunk.tile_order, chunk.tile_order + chunk.tiles + 1, int64_t{0});
  for (int64_t row = 0; row < chunk.rows; ++row) {
    ++chunk.tile_order[chunk.targets[row] / kTileItems + 1];
  }
  for (int64_t tile = 0; tile < chunk.tiles; ++tile) {
    chunk.tile_order[tile + 1] += chunk.tile_order[tile];
  }
  for (int64_t row = 0; row < chunk.rows; ++row) {
    chunk.order[chunk.tile_order[chunk.targets[row] / kTileItems]++] = row;
  }
  for (int64_t tile = chunk.tiles; tile > 0; --tile) {
    chunk.tile_order[tile] = chunk.tile_order[tile - 1];
  }
  chunk.tile_order[0] = 0;
}

// Two vectors of logits under their shifts.
template <bool kHugeLogits, class T>
MCLREC_INLINE void load_shifted(const T* logits, const Vec<T> (&shift)[2], Vec<T>* x) {
  for (int half = 0; half < 2; ++half) {
    const Vec<T> logit = load(logits + half * kLanes<T>);
    x[half] = kHugeLogits ? (logit - shift[half]) * kLog2e<T>
                          : fma(logit, broadcast(kLog2e<T>), -shift[half]);
  }
}

// Logits [count, kCols] of one panel of rows become exponentials in place; the panel's maximum,
// shift and sum ([kCols] each) follow. `rescale` [kCols] is what a sum under the old shift is now
// worth.
template <bool kHugeLogits, class T>
MCLREC_INLINE void exponentials(T* logits, int64_t stride, int64_t count, T* max_at, T* shift_at,
                                T* sum_at, T* rescale) {
  constexpr int kHalf = kLanes<T>;
  Vec<T> top[2] = {load(max_at), load(max_at + kHalf)};
  for (int64_t v = 0; v < count; ++v) {
    top[0] = max(top[0], load(logits + v * stride));
    top[1] = max(top[1], load(logits + v * stride + kHalf));
  }
  constexpr T kToShift = kHugeLogits ? T(1) : kLog2e<T>;
  constexpr T kOfShift = kHugeLogits ? kLog2e<T> : T(1);
  const Vec<T> shift[2] = {top[0] * kToShift, top[1] * kToShift};
  Vec<T> change[2] = {(load(shift_at) - shift[0]) * kOfShift,
                      (load(shift_at + kHalf) - shift[1]) * kOfShift};
  exp2_nonpositive(change);
  Vec<T> sum[2] = {load(sum_at) * change[0], load(sum_at + kHalf) * change[1]};
  int64_t v = 0;
  for (; v + 2 <= count; v += 2) {
    T* at = logits + v * stride;
    Vec<T> x[4];
    load_shifted<kHugeLogits>(at, shift, x);
    load_shifted<kHugeLogits>(at + stride, shift, x + 2);
    exp2_nonpositive(x);
    store(at, x[0]);
    store(at + kHalf, x[1]);
    store(at + stride, x[2]);
    store(at + stride + kHalf, x[3]);
    sum[0] += x[0] + x[2];
    sum[1] += x[1] + x[3];
  }
  if (v < count) {
    T* at = logits + v * stride;
    Vec<T> x[2];
    load_shifted<kHugeLogits>(at, shift, x);
    exp2_nonpositive(x);
    store(at, x[0]);
    store(at + kHalf, x[1]);
    sum[0] += x[0];
    sum[1] += x[1];
  }
  for (int half = 0; half < 2; ++half) {
    store(max_at + half * kHalf, top[half]);
    store(shift_at + half * kHalf, shift[half]);
    store(sum_at + half * kHalf, sum[half]);
    store(rescale + half * kHalf, change[half]);
  }
}

// grad [kCols, D'] = grad * rescale (by row) + exps^T items.
template <class T>
MCLREC_INLINE void add_row_gradient(const T* exps, int64_t stride, const ItemRows<T>& items,
                                    const T* rescale, T* grad, int64_t padded_hidden) {
  constexpr int kCols = kTileCols<T>;
  for (int r = 0; r < kCols; ++r) {
    if (rescale[r] == T(1)) continue;
    T* row = grad + r * padded_hidden;
    for (int64_t d = 0; d < padded_hidden; d += kLanes<T>) {
      store(row + d, load(row + d) * rescale[r]);
    }
  }
  multiply_transposed<TileStart::kAdd, T>(
      {exps, stride}, {items.data, items.stride},
      {.rows = kCols, .cols = padded_hidden, .depth = items.count}, {grad, padded_hidden});
}

template <class T>
void forward_tile(const Chunk<T>& chunk, int64_t block, int64_t tile, int worker) {
  constexpr int kCols = kTileCols<T>;
  const bool keep = chunk.params.grad_items != nullptr;
  const ItemRows<T> items = item_rows(chunk, tile, worker);
  T* exps = chunk.exps + (keep ? tile : worker) * kTileItems * chunk.stride;
  const int64_t* next = chunk.order + chunk.tile_order[tile];
  const int64_t* end = chunk.order + chunk.tile_order[tile + 1];
  PrefetchShares ahead = tile_ahead(chunk, tile, chunk.params.items, chunk.params.hidden,
                                    chunk.padded_rows / kCols * chunk.item_groups(tile));
  for (int64_t row = 0; row < chunk.padded_rows; row += kCols) {
    const T* panel = chunk.h_panels + row * chunk.params.hidden;
    T* at = exps + row;
    for (int64_t v = 0; v < items.count;) {
      const int count = next_tile_rows(items.count - v);
      ahead.next();
      multiply_tile_rows<false, TileStart::kZero, T>(
          count, {items.data + v * items.stride, items.stride}, {panel, kCols}, chunk.params.hidden,
          {at + v * chunk.stride, chunk.stride});
      v += count;
    }
    for (; next < end && *next < row + kCols; ++next) {
      const int64_t item = chunk.targets[*next] - tile * kTileItems;
      T& logit = exps[item * chunk.stride + *next];
      chunk.target_logit[*next] = logit;
      logit = -std::numeric_limits<T>::infinity();
    }
    T rescale[kCols];
    const int64_t state = block * chunk.padded_rows + row;
    T* shift = chunk.block_shift + state;
    if (chunk.huge) {
      exponentials<true>(at, chunk.stride, items.count, chunk.block_max + state, shift,
                         chunk.block_sum + state, rescale);
    } else {
      exponentials<false>(at, chunk.stride, items.count, chunk.block_max + state, shift,
                          chunk.block_sum + state, rescale);
    }
    if (keep) std::copy(shift, shift + kCols, chunk.tile_shift + tile * chunk.padded_rows + row);
    if (chunk.params.grad_h == nullptr) continue;
    add_row_gradient(at, chunk.stride, items, rescale,
                     chunk.block_grad + state * chunk.padded_hidden, chunk.padded_hidden);
  }
}

template <class T>
void forward_block(const Chunk<T>& chunk, int64_t block, int worker) {
  const int64_t state = block * chunk.padded_rows, size = chunk.padded_rows;
  // Below every logit, and still finite times 1 / ln 2: a tile may hold nothing but a target.
  constexpr T kLowest = std::numeric_limits<T>::lowest() / 2;
  std::fill_n(chunk.block_max + state, size, kLowest);
  std::fill_n(chunk.block_shift + state, size, kLowest * chunk.to_shift());
  std::fill_n(chunk.block_sum + state, size, T(0));
  if (chunk.params.grad_h != nullptr) {
    std::fill_n(chunk.block_grad + state * chunk.padded_hidden, size * chunk.padded_hidden, T(0));
  }
  const int64_t begin = chunk.first_tile(block), end = chunk.first_tile(block + 1);
  for (int64_t tile = begin; tile < end; ++tile) forward_tile(chunk, block, tile, worker);
}

// d loss / d h = sum_v (softmax_v - [v is the target]) item_v / B, from the parts of the blocks.
template <class T>
void join_row_gradient(const Chunk<T>& chunk, int64_t row, const T* weight) {
  const int64_t hidden = chunk.params.hidden;
  T* out = chunk.params.grad_h + (chunk.h - chunk.params.h) + row * hidden;
  const T* target = chunk.params.items + chunk.targets[row] * hidden;
  for (int64_t d = 0; d < hidden; d += kLanes<T>) {
    Vec<T> total = {};
    for (int64_t b = 0; b < chunk.blocks; ++b) {
      const T* part = chunk.block_grad + (b * chunk.padded_rows + row) * chunk.padded_hidden + d;
      total = fma(load(part), broadcast(weight[b]), total);
    }
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes<T>, hidden - d));
    const Vec<T> own = load_first(target + d, lanes) * chunk.target_grad[row];
    store_first(out + d, total * chunk.row_scale[row] + own, lanes);
  }
}

// Joins the blocks for one row: its loss, and the gradient of h. With `others` the sum of all
// exponentials but the target's, loss = log(1 + others / target) and softmax_target - 1 =
// -others / (others + target), neither with any cancellation.
// Blocks are taken in order, so the sums are the same for any number of threads.
template <class T>
void join_row(const Chunk<T>& chunk, int64_t row) {
  const int64_t step = chunk.padded_rows;
  const T logit = chunk.target_logit[row];
  T top = logit * chunk.to_shift();
  for (int64_t b = 0; b < chunk.blocks; ++b) top = std::max(top, chunk.block_shift[b * step + row]);
  T weight[kMaxBlocks];
  T others = 0;
  for (int64_t b = 0; b < chunk.blocks; ++b) {
    weight[b] = std::exp2((chunk.block_shift[b * step + row] - top) * chunk.of_shift());
    others += weight[b] * chunk.block_sum[b * step + row];
  }
  const T relative = std::fma(logit, chunk.to_shift(), -top) * chunk.of_shift();
  const T target = std::exp2(relative);
  const T rows = static_cast<T>(chunk.params.rows);
  constexpr double kLn2 = 0.693147180559945309417;
  chunk.row_shift[row] = top;
  chunk.row_scale[row] = T(1) / ((others + target) * rows);
  chunk.target_grad[row] = -others * chunk.row_scale[row];
  chunk.row_loss[row] = target >= others
                            ? std::log1p(double{others} / double{target})
                            : std::log(double{others} + double{target}) - kLn2 * double{relative};
  if (chunk.params.grad_h != nullptr) join_row_gradient(chunk, row, weight);
}

// scaled_h follows the shift of `tile`. Only rows whose shift has moved since
// the tile before (`current` [R']) change: after a few tiles hardly any does.
template <class T>
void scale_rows(const Chunk<T>& chunk, int64_t tile, bool all, T* current, T* scaled) {
  constexpr int kCols = kTileCols<T>;
  const T* shift = chunk.tile_shift + tile * chunk.padded_rows;
  const int64_t hidden = chunk.params.hidden;
  for (int64_t row = 0; row < chunk.rows; ++row) {
    if (!all && shift[row] == current[row]) continue;
    current[row] = shift[row];
    const T change = (shift[row] - chunk.row_shift[row]) * chunk.of_shift();
    const T factor = std::exp2(change) * chunk.row_scale[row];
    const T* from = chunk.h + row * hidden;
    for (int64_t d = 0; d < chunk.padded_hidden; d += kLanes<T>) {
      T* to = scaled + (d / kCols * chunk.rows + row) * kCols + d % kCols;
      const int64_t left = hidden - d;
      const Vec<T> value = left >= kLanes<T>
                               ? load(from + d)
                               : load_first(from + d, static_cast<int>(std::max<int64_t>(left, 0)));
      store(to, value * factor);
    }
  }
}

// d loss / d item_v = sum over rows of (softmax_v - [v is the target]) h / B.
template <class T>
void backward_tile(const Chunk<T>& chunk, int64_t tile, const T* scaled, int worker) {
  constexpr int kCols = kTileCols<T>;
  const int64_t hidden = chunk.params.hidden, count = chunk.tile_items(tile);
  const T* exps = chunk.exps + tile * kTileItems * chunk.stride;
  T* out = chunk.params.grad_items + tile * kTileItems * hidden;
  const bool direct = chunk.unpadded();
  T* grad = direct ? out : chunk.grad_tile + worker * kTileItems * chunk.padded_hidden;
  const bool add = direct && !chunk.first;
  PrefetchShares ahead = tile_ahead(chunk, tile, chunk.exps, chunk.stride,
                                    chunk.padded_hidden / kCols * chunk.item_groups(tile));
  for (int64_t d = 0; d < chunk.padded_hidden; d += kCols) {
    const T* panel = scaled + d * chunk.rows;
    for (int64_t v = 0; v < count;) {
      const int n = next_tile_rows(count - v);
      ahead.next();
      const Rows<const T> a{exps + v * chunk.stride, chunk.stride};
      const Rows<T> c{grad + v * chunk.padded_hidden + d, chunk.padded_hidden};
      if (add) {
        multiply_tile_rows<false, TileStart::kAdd, T>(n, a, {panel, kCols}, chunk.rows, c);
      } else {
        multiply_tile_rows<false, TileStart::kZero, T>(n, a, {panel, kCols}, chunk.rows, c);
      }
      v += n;
    }
  }
  if (!direct) {
    for (int64_t v = 0; v < count; ++v) {
      const T* from = grad + v * chunk.padded_hidden;
      T* to = out + v * hidden;
      for (int64_t d = 0; d < hidden; ++d) to[d] = chunk.first ? from[d] : to[d] + from[d];
    }
  }
  for (int64_t i = chunk.tile_order[tile]; i < chunk.tile_order[tile + 1]; ++i) {
    const int64_t row = chunk.order[i];
    T* to = chunk.params.grad_items + chunk.targets[row] * hidden;
    const T factor = chunk.target_grad[row];
    for (int64_t d = 0; d < hidden; ++d) to[d] += chunk.h[row * hidden + d] * factor;
  }
}

template <class T>
void backward_block(const Chunk<T>& chunk, int64_t block, int worker) {
  T current[kMaxRows];
  T* scaled = chunk.scaled_h + worker * chunk.rows * chunk.padded_hidden;
  const int64_t begin = chunk.first_tile(block), end = chunk.first_tile(block + 1);
  for (int64_t tile = begin; tile < end; ++tile) {
    scale_rows(chunk, tile, tile == begin, current, scaled);
    backward_tile(chunk, tile, scaled, worker);
  }
}

// Rows of a chunk: the exponentials of all of them against all items are kept for the second
// product, within kStoreBytes or twice the size of the item table, whichever is more.
template <class T>
int64_t chunk_rows(const ItemCrossEntropyParams<T>& params) {
  int64_t rows = std::min(params.rows, kMaxRows);
  if (params.grad_items == nullptr) return rows;
  const int64_t table = params.classes * params.hidden * static_cast<int64_t>(sizeof(T));
  const int64_t fit = std::max(kStoreBytes, 2 * table) / (params.classes * int64_t{sizeof(T)});
  if (fit >= rows) return rows;
  return fit >= kTileCols<T> ? fit / kTileCols<T> * kTileCols<T> : std::max<int64_t>(fit, 1);
}

template <class T>
Chunk<T> make_chunk(const ItemCrossEntropyParams<T>& params, int64_t rows, Scratch& scratch) {
  constexpr int kCols = kTileCols<T>;
  const int64_t workers = worker_count();
  const bool keep = params.grad_items != nullptr;
  Chunk<T> c{params};
  c.rows = rows;
  c.padded_rows = round_up(rows, kCols);
  c.padded_hidden = round_up(params.hidden, kCols);
  c.tiles = ceil_div(params.classes, kTileItems);
  c.blocks = std::clamp<int64_t>(c.tiles / kBlockTiles, 1, kMaxBlocks);
  // An odd number of cache lines: the items of a tile then fall into different sets of L1.
  constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
  c.stride = round_up(c.padded_rows, kLine);
  if (c.stride / kLine % 2 == 0) c.stride += kLine;
  c.h_panels = scratch.take<T>(c.padded_rows * params.hidden);
  c.exps = scratch.take<T>((keep ? c.tiles : workers) * kTileItems * c.stride);
  c.tile_shift = scratch.take<T>(keep ? c.tiles * c.padded_rows : 0);
  c.block_max = scratch.take<T>(c.blocks * c.padded_rows);
  c.block_shift = scratch.take<T>(c.blocks * c.padded_rows);
  c.block_sum = scratch.take<T>(c.blocks * c.padded_rows);
  c.block_grad = scratch.take<T>(params.grad_h ? c.blocks * c.padded_rows * c.padded_hidden : 0);
  c.row_shift = scratch.take<T>(c.padded_rows);
  c.row_scale = scratch.take<T>(c.padded_rows);
  c.target_logit = scratch.take<T>(c.padded_rows);
  c.target_grad = scratch.take<T>(c.padded_rows);
  c.row_loss = scratch.take<double>(c.padded_rows);
  c.order = scratch.take<int64_t>(rows);
  c.tile_order = scratch.take<int64_t>(c.tiles + 1);
  c.item_copy = scratch.take<T>(c.unpadded() ? 0 : workers * kTileItems * c.padded_hidden);
  c.scaled_h = scratch.take<T>(keep ? workers * rows * c.padded_hidden : 0);
  c.grad_tile = scratch.take<T>(c.unpadded() ? 0 : workers * kTileItems * c.padded_hidden);
  return c;
}

// The losses of a chunk's rows, and the gradient of h.
template <class T>
void forward_chunk(const Chunk<T>& chunk) {
  parallel_tasks(chunk.blocks,
                 [&](int64_t block, int worker) { forward_block(chunk, block, worker); });
  parallel_tasks(ceil_div(chunk.rows, 16), [&](int64_t task, int) {
    const int64_t end = std::min(task * 16 + 16, chunk.rows);
    for (int64_t r = task * 16; r < end; ++r) join_row(chunk, r);
  });
}

template <class T>
bool has_huge_logits(const Chunk<T>& chunk) {
  for (int64_t row = 0; row < chunk.rows; ++row) {
    T top = chunk.target_logit[row];
    for (int64_t b = 0; b < chunk.blocks; ++b) {
      top = std::max(top, chunk.block_max[b * chunk.padded_rows + row]);
    }
    if (std::abs(top) >= kHuge<T>) return true;
  }
  return false;
}

template <class T>
void run(const ItemCrossEntropyParams<T>& params) {
  Scratch scratch;
  Chunk<T> chunk = make_chunk(params, chunk_rows(params), scratch);
  const int64_t step = chunk.rows;
  double loss = 0;
  for (int64_t row = 0; row < params.rows; row += step) {
    chunk.rows = std::min(step, params.rows - row);
    chunk.padded_rows = round_up(chunk.rows, kTileCols<T>);
    chunk.h = params.h + row * params.hidden;
    chunk.targets = params.targets + row;
    chunk.first = row == 0;
    pack_rows(chunk);
    sort_targets(chunk);
    chunk.huge = false;
    forward_chunk(chunk);
    if (has_huge_logits(chunk)) {
      chunk.huge = true;
      forward_chunk(chunk);
    }
    for (int64_t r = 0; r < chunk.rows; ++r) loss += chunk.row_loss[r];
    if (params.grad_items == nullptr) continue;
    parallel_tasks(chunk.blocks,
                   [&](int64_t block, int worker) { backward_block(chunk, block, worker); });
  }
  *params.loss = static_cast<T>(loss / static_cast<double>(params.rows));
}
