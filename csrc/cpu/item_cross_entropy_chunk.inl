// What the two forms of the catalogue's softmax share (see item_cross_entropy_cpu.cpp): a chunk of
// rows, its statistics against the items, block by block of tiles, and how the blocks are joined.
// No #include and no namespace here: see item_cross_entropy_kernels.inl.

// Items of a tile: 18 KB of the table at D = 64; or whole tiles of AMX, six of them.
constexpr int64_t kTileItems = MCLREC_ROUNDS ? 96 : 72;
constexpr int64_t kMaxRows = 256;  // rows of h worked on together: 64 KB, and so is a d loss / d h
// Tiles are dealt to the threads in blocks, whatever the number of threads. Each block has sums of
// its own, which cost about as much as one of its tiles.
constexpr int64_t kBlockTiles = 10;
constexpr int64_t kMaxBlocks = 32;
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
  const T* h = nullptr;              // [R, D] this chunk's rows
  const int64_t* targets = nullptr;  // [R]
  bool first = true;  // the item gradient is stored by the first chunk, added to by the others

  // A logit x enters as 2^(x / ln 2 - shift), where shift is the running row maximum / ln 2; where
  // logits are huge, as 2^((x - shift) / ln 2), shift being the maximum itself. The target's own
  // logit is left out of all of these (see join_row).
  bool huge = false;
  T to_shift() const { return huge ? T(1) : kLog2e<T>; }
  T of_shift() const { return huge ? kLog2e<T> : T(1); }
  T* block_max = nullptr;      // [blocks, R'] the running maximum of a block of tiles
  T* block_sum = nullptr;      // [blocks, R'] sum of exponentials, under block_shift
  T* block_shift = nullptr;    // [blocks, R']
  T* block_grad = nullptr;     // [blocks, R', D'] or its transpose, a block's part of d loss / d h
  T* row_shift = nullptr;      // [R'] the largest of all logits / ln 2
  T* row_scale = nullptr;      // [R'] 1 / (sum * B), the sum under row_shift with the target
  T* target_logit = nullptr;   // [R']
  T* target_grad = nullptr;    // [R'] d loss / d target_logit = (softmax - 1) / B
  double* row_loss = nullptr;  // [R']
  int64_t* order = nullptr;    // [R] rows, by the tile of their target, then by number
  int64_t* tile_order = nullptr;  // [tiles + 1] where each tile's rows begin in `order`

  Chunk(const ItemCrossEntropyParams<T>& call, int64_t most_rows, Scratch& scratch)
      : params(call),
        rows(most_rows),
        padded_rows(round_up(most_rows, kCols)),
        padded_hidden(round_up(call.hidden, kCols)),
        tiles(ceil_div(call.classes, kTileItems)),
        blocks(std::clamp<int64_t>(tiles / kBlockTiles, 1, kMaxBlocks)) {
    for (T** place : {&block_max, &block_sum, &block_shift}) {
      *place = scratch.take<T>(blocks * padded_rows);
    }
    block_grad = scratch.take<T>(params.grad_h ? blocks * padded_rows * padded_hidden : 0);
    for (T** place : {&row_shift, &row_scale, &target_logit, &target_grad}) {
      *place = scratch.take<T>(padded_rows);
    }
    row_loss = scratch.take<double>(padded_rows);
    order = scratch.take<int64_t>(rows);
    tile_order = scratch.take<int64_t>(tiles + 1);
  }

  // Its rows are those of the call from `row` on, at most `most_rows`.
  void move_to(int64_t row, int64_t most_rows) {
    rows = std::min(most_rows, params.rows - row);
    padded_rows = round_up(rows, kCols);
    h = params.h + row * params.hidden;
    targets = params.targets + row;
    first = row == 0;
    huge = false;
  }

  int64_t first_tile(int64_t block) const { return block * tiles / blocks; }
  int64_t tile_items(int64_t tile) const {
    return std::min(kTileItems, params.classes - tile * kTileItems);
  }
  bool unpadded() const { return padded_hidden == params.hidden; }
};

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

// What a block's statistics start from.
template <class T>
void start_block(const Chunk<T>& chunk, int64_t block) {
  const int64_t state = block * chunk.padded_rows, size = chunk.padded_rows;
  // Below every logit, and still finite times 1 / ln 2: a tile may hold nothing but a target.
  constexpr T kLowest = std::numeric_limits<T>::lowest() / 2;
  std::fill_n(chunk.block_max + state, size, kLowest);
  std::fill_n(chunk.block_shift + state, size, kLowest * chunk.to_shift());
  std::fill_n(chunk.block_sum + state, size, T(0));
  if (chunk.params.grad_h != nullptr) {
    std::fill_n(chunk.block_grad + state * chunk.padded_hidden, size * chunk.padded_hidden, T(0));
  }
}

// Joins the blocks for one row: its loss, and what a block's sums are worth under row_shift. With
// `others` the sum of all exponentials but the target's, loss = log(1 + others / target) and
// softmax_target - 1 = -others / (others + target), neither with any cancellation. Blocks are taken
// in order, so the sums are the same for any number of threads.
template <class T>
void join_row(const Chunk<T>& chunk, int64_t row, T (&weight)[kMaxBlocks]) {
  const int64_t step = chunk.padded_rows;
  const T logit = chunk.target_logit[row];
  T top = logit * chunk.to_shift();
  for (int64_t b = 0; b < chunk.blocks; ++b) top = std::max(top, chunk.block_shift[b * step + row]);
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
}

// Where D is no D': what a product left of the gradient of a tile's items, [items, D'], goes to
// them.
template <class T>
void write_items(const Chunk<T>& chunk, int64_t tile, const T* grad) {
  const int64_t hidden = chunk.params.hidden;
  T* to = chunk.params.grad_items + tile * kTileItems * hidden;
  for (int64_t v = 0; v < chunk.tile_items(tile); ++v) {
    for (int64_t d = 0; d < hidden; ++d) to[d] = chunk.first ? grad[d] : to[d] + grad[d];
    grad += chunk.padded_hidden;
    to += hidden;
  }
}

// Adds the targets' own share to the gradient of a tile's items.
template <class T>
void add_targets(const Chunk<T>& chunk, int64_t tile) {
  const int64_t hidden = chunk.params.hidden;
  for (int64_t i = chunk.tile_order[tile]; i < chunk.tile_order[tile + 1]; ++i) {
    const int64_t row = chunk.order[i];
    T* to = chunk.params.grad_items + chunk.targets[row] * hidden;
    const T factor = chunk.target_grad[row];
    for (int64_t d = 0; d < hidden; ++d) to[d] += chunk.h[row * hidden + d] * factor;
  }
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

// All chunks of a call: prepare(), then forward() (again where logits are huge), then backward()
// where asked for.
template <class T, class Any, class Prepare, class Forward, class Backward>
void run_chunks(Any& chunk, bool backward_too, const Prepare& prepare, const Forward& forward,
                const Backward& backward) {
  const ItemCrossEntropyParams<T>& params = chunk.params;
  const int64_t step = chunk.rows;
  double loss = 0;
  for (int64_t row = 0; row < params.rows; row += step) {
    chunk.move_to(row, step);
    prepare();
    sort_targets<T>(chunk);
    forward();
    if (has_huge_logits<T>(chunk)) {
      chunk.huge = true;
      forward();
    }
    for (int64_t r = 0; r < chunk.rows; ++r) loss += chunk.row_loss[r];
    if (backward_too) backward();
  }
  *params.loss = static_cast<T>(loss / static_cast<double>(params.rows));
}
