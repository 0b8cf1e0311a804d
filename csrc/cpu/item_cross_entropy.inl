// The catalogue's softmax by products of float32 factors (see item_cross_entropy_cpu.cpp): one pass
// that keeps the exponentials, and one for the gradient of the items.
// No #include and no namespace here: see item_cross_entropy_kernels.inl.

// A chunk whose exponentials are kept for the second product.
template <class T>
struct KeptChunk : Chunk<T> {
  static constexpr int kCols = kTileCols<T>;
  int64_t stride = 0;       // between the items of a tile in `exps`
  T* h_panels = nullptr;    // [R' / kCols, D, kCols] h, transposed in panels
  T* exps = nullptr;        // [tiles or workers, kTileItems, stride] exponentials
  T* tile_shift = nullptr;  // [tiles, R'] the shift of each tile
  T* item_copy = nullptr;   // [workers, kTileItems, D']
  T* scaled_h = nullptr;    // [workers, D' / kCols, R, kCols] h, each row times the factor
                            // that makes a tile's exponentials softmax / B
  T* grad_tile = nullptr;   // [workers, kTileItems, D']

  KeptChunk(const ItemCrossEntropyParams<T>& call, int64_t most_rows, Scratch& scratch)
      : Chunk<T>(call, most_rows, scratch) {
    const int64_t workers = worker_count(), hidden = call.hidden;
    const bool keep = call.grad_items != nullptr;
    // An odd number of cache lines: the items of a tile then fall into different sets of L1.
    constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
    stride = round_up(this->padded_rows, kLine);
    if (stride / kLine % 2 == 0) stride += kLine;
    const int64_t of_tile = kTileItems * this->padded_hidden;
    h_panels = scratch.take<T>(this->padded_rows * hidden);
    exps = scratch.take<T>((keep ? this->tiles : workers) * kTileItems * stride);
    tile_shift = scratch.take<T>(keep ? this->tiles * this->padded_rows : 0);
    item_copy = scratch.take<T>(this->unpadded() ? 0 : workers * of_tile);
    scaled_h = scratch.take<T>(keep ? workers * most_rows * this->padded_hidden : 0);
    grad_tile = scratch.take<T>(this->unpadded() ? 0 : workers * of_tile);
  }

  // Register tiles of a product that has a tile's items for rows.
  int64_t item_groups(int64_t tile) const { return ceil_div(this->tile_items(tile), kTileRows); }
};

// Fetches the part of the tile behind `tile`, in as many shares, of an array with a row of `stride`
// elements for each item.
template <class T>
PrefetchShares tile_ahead(const KeptChunk<T>& chunk, int64_t tile, const T* rows, int64_t stride,
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
ItemRows<T> item_rows(const KeptChunk<T>& chunk, int64_t tile, int worker) {
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
void pack_rows(const KeptChunk<T>& chunk) {
  constexpr int kCols = kTileCols<T>;
  const int64_t hidden = chunk.params.hidden;
  for (int64_t row = 0; row < chunk.padded_rows; ++row) {
    T* to = chunk.h_panels + row / kCols * kCols * hidden + row % kCols;
    for (int64_t d = 0; d < hidden; ++d) {
      to[d * kCols] = row < chunk.rows ? chunk.h[row * hidden + d] : T(0);
    }
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
void forward_tile(const KeptChunk<T>& chunk, int64_t block, int64_t tile, int worker) {
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
void forward_block(const KeptChunk<T>& chunk, int64_t block, int worker) {
  start_block<T>(chunk, block);
  const int64_t begin = chunk.first_tile(block), end = chunk.first_tile(block + 1);
  for (int64_t tile = begin; tile < end; ++tile) forward_tile(chunk, block, tile, worker);
}

// d loss / d h = sum_v (softmax_v - [v is the target]) item_v / B, from the parts of the blocks.
template <class T>
void join_row_gradient(const KeptChunk<T>& chunk, int64_t row, const T* weight) {
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

// scaled_h follows the shift of `tile`. Only rows whose shift has moved since
// the tile before (`current` [R']) change: after a few tiles hardly any does.
template <class T>
void scale_rows(const KeptChunk<T>& chunk, int64_t tile, bool all, T* current, T* scaled) {
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
void backward_tile(const KeptChunk<T>& chunk, int64_t tile, const T* scaled, int worker) {
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
  if (!direct) write_items<T>(chunk, tile, grad);
  add_targets<T>(chunk, tile);
}

template <class T>
void backward_block(const KeptChunk<T>& chunk, int64_t block, int worker) {
  T current[kMaxRows];
  T* scaled = chunk.scaled_h + worker * chunk.rows * chunk.padded_hidden;
  const int64_t begin = chunk.first_tile(block), end = chunk.first_tile(block + 1);
  for (int64_t tile = begin; tile < end; ++tile) {
    scale_rows(chunk, tile, tile == begin, current, scaled);
    backward_tile(chunk, tile, scaled, worker);
  }
}

constexpr int64_t kStoreBytes = int64_t{64} << 20;

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

// The losses of a chunk's rows, and the gradient of h.
template <class T>
void forward_chunk(const KeptChunk<T>& chunk) {
  parallel_tasks(chunk.blocks,
                 [&](int64_t block, int worker) { forward_block(chunk, block, worker); });
  parallel_tasks(ceil_div(chunk.rows, 16), [&](int64_t task, int) {
    const int64_t end = std::min(task * 16 + 16, chunk.rows);
    for (int64_t r = task * 16; r < end; ++r) {
      T weight[kMaxBlocks];
      join_row<T>(chunk, r, weight);
      if (chunk.params.grad_h != nullptr) join_row_gradient(chunk, r, weight);
    }
  });
}

template <class T>
void run(const ItemCrossEntropyParams<T>& params) {
  Scratch scratch;
  KeptChunk<T> chunk(params, chunk_rows(params), scratch);
  run_chunks<T>(
      chunk, params.grad_items != nullptr, [&] { pack_rows(chunk); }, [&] { forward_chunk(chunk); },
      [&] {
        parallel_tasks(chunk.blocks,
                       [&](int64_t block, int worker) { backward_block(chunk, block, worker); });
      });
}
