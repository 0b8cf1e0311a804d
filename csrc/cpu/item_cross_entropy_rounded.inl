// The catalogue's softmax by rounded products (see item_cross_entropy_cpu.cpp, products_amx.inl).
// Here a product costs less than the memory traffic of kept exponentials: one pass over the items
// finds each row's maximum and sum; a second one computes the logits again, and from each tile's
// probabilities both gradients, while they are in cache. Four products instead of three, and twice
// the exponentials, which are float32 as ever.
// No #include and no namespace here: see item_cross_entropy_kernels.inl.

template <class T>
struct RoundedChunk : Chunk<T> {
  static constexpr int kCols = kTileCols<T>;
  T* h_panels = nullptr;              // h^T [D, R'], the right factor of the logits
  T* h_pairs = nullptr;               // h [R', D'], that of the items' gradient
  T* logits = nullptr;                // [workers, kTileItems, kCols]
  T* grad_tile = nullptr;             // [workers, kTileItems, D'], where D is no D'
  std::vector<Products<T>> products;  // of each worker

  RoundedChunk(const ItemCrossEntropyParams<T>& call, int64_t most_rows, Scratch& scratch)
      : Chunk<T>(call, most_rows, scratch) {
    const int64_t workers = worker_count(), rows = this->padded_rows, hidden = this->padded_hidden;
    h_panels = scratch.take<T>(Products<T>::panels_size(hidden, rows));
    h_pairs = scratch.take<T>(Products<T>::panels_size(rows, hidden));
    logits = scratch.take<T>(workers * kTileItems * kCols);
    grad_tile = scratch.take<T>(this->unpadded() ? 0 : workers * kTileItems * hidden);
    // The items as a left factor and turned, the probabilities as a left and as a right one.
    const int64_t room = Products<T>::room_for(kTileItems, 2 * hidden + 2 * rows);
    for (int64_t w = 0; w < workers; ++w) products.emplace_back(scratch.take<T>(room));
  }

  Rows<const T> items(int64_t tile) const {
    const int64_t hidden = this->params.hidden;
    return {this->params.items + tile * kTileItems * hidden, hidden};
  }
};

template <class T>
void pack_rows(const RoundedChunk<T>& chunk) {
  const int64_t hidden = chunk.params.hidden;
  Products<T>::pack(chunk.h, 1, hidden, hidden, chunk.rows, chunk.h_panels);
  Products<T>::pack(chunk.h, hidden, 1, chunk.rows, hidden, chunk.h_pairs);
}

// Logits [items of the tile, kCols] of the rows from `row` on. Targets' are passed to
// target(row, logit) and become -infinity; `next` is the first of chunk.order that may be in the
// tile at these rows or later ones.
template <class T, class Target>
MCLREC_INLINE void tile_logits(const RoundedChunk<T>& chunk, int64_t tile, int64_t row,
                               const typename Products<T>::Left& items, T* logits,
                               const int64_t*& next, const Target& target) {
  constexpr int kCols = kTileCols<T>;
  const int64_t hidden = chunk.params.hidden;
  Products<T>::template multiply<TileStart::kZero>(
      items, chunk.h_panels + Products<T>::panels_size(hidden, row),
      {.rows = chunk.tile_items(tile), .cols = kCols, .depth = hidden}, {logits, kCols});
  const int64_t* end = chunk.order + chunk.tile_order[tile + 1];
  for (; next < end && *next < row + kCols; ++next) {
    T& logit = logits[(chunk.targets[*next] - tile * kTileItems) * kCols + *next - row];
    target(*next, logit);
    logit = -std::numeric_limits<T>::infinity();
  }
}

// The first pass: maxima and sums of a block of tiles.
template <class T>
void sum_block(RoundedChunk<T>& chunk, int64_t block, int worker) {
  constexpr int kCols = kTileCols<T>;
  const typename Products<T>::Use use;
  Products<T>& products = chunk.products[worker];
  T* logits = chunk.logits + worker * kTileItems * kCols;
  start_block<T>(chunk, block);
  for (int64_t tile = chunk.first_tile(block); tile < chunk.first_tile(block + 1); ++tile) {
    const typename Products<T>::Room room(products);
    const int64_t count = chunk.tile_items(tile);
    const auto items = products.left(chunk.items(tile), count, chunk.params.hidden);
    const int64_t* next = chunk.order + chunk.tile_order[tile];
    for (int64_t row = 0; row < chunk.padded_rows; row += kCols) {
      tile_logits(chunk, tile, row, items, logits, next,
                  [&](int64_t of, T logit) { chunk.target_logit[of] = logit; });
      T rescale[kCols];
      const int64_t state = block * chunk.padded_rows + row;
      T* max = chunk.block_max + state;
      T* shift = chunk.block_shift + state;
      T* sum = chunk.block_sum + state;
      if (chunk.huge) {
        exponentials<true>(logits, kCols, count, max, shift, sum, rescale);
      } else {
        exponentials<false>(logits, kCols, count, max, shift, sum, rescale);
      }
    }
  }
}

// softmax / B of two rows of a tile's logits, four vectors.
template <bool kHugeLogits, class T>
MCLREC_INLINE void probabilities(const T* logits, const Vec<T> (&shift)[2],
                                 const Vec<T> (&scale)[2], Vec<T> (&p)[4]) {
  load_shifted<kHugeLogits>(logits, shift, p);
  load_shifted<kHugeLogits>(logits + kTileCols<T>, shift, p + 2);
  exp2_nonpositive(p);
  for (int i = 0; i < 4; ++i) p[i] *= scale[i % 2];
}

// The second pass: the gradient of a block's items, and its part of the transposed gradient of h.
template <bool kHugeLogits, class T>
void gradient_block(RoundedChunk<T>& chunk, int64_t block, int worker) {
  constexpr int kCols = kTileCols<T>;
  const typename Products<T>::Use use;
  const int64_t hidden = chunk.params.hidden, rows = chunk.padded_rows;
  Products<T>& products = chunk.products[worker];
  T* logits = chunk.logits + worker * kTileItems * kCols;
  T* block_grad = chunk.block_grad + block * rows * chunk.padded_hidden;
  for (int64_t tile = chunk.first_tile(block); tile < chunk.first_tile(block + 1); ++tile) {
    const typename Products<T>::Room room(products);
    const int64_t count = chunk.tile_items(tile);
    const auto items = products.left(chunk.items(tile), count, hidden);
    const auto left = products.empty(kTileItems, rows);
    const auto right = products.empty(rows, count);
    const int64_t* next = chunk.order + chunk.tile_order[tile];
    for (int64_t row = 0; row < rows; row += kCols) {
      tile_logits(chunk, tile, row, items, logits, next, [](int64_t, T) {});
      const Vec<T> shift[2] = {load(chunk.row_shift + row),
                               load(chunk.row_shift + row + kLanes<T>)};
      const Vec<T> scale[2] = {load(chunk.row_scale + row),
                               load(chunk.row_scale + row + kLanes<T>)};
      // Items that are not there have probability 0.
      const int64_t end = round_up(count, kTileDepth);
      for (int64_t v = count; v < end; ++v) {
        std::fill_n(logits + v * kCols, kCols, -std::numeric_limits<T>::infinity());
      }
      for (int64_t v = 0; v < end; v += 2) {
        Vec<T> p[4];
        probabilities<kHugeLogits, T>(logits + v * kCols, shift, scale, p);
        Products<T>::put_left(left, v, row / kCols, p[0], p[1]);
        Products<T>::put_left(left, v + 1, row / kCols, p[2], p[3]);
        Products<T>::put_pair(right, v, row, p[0], p[2]);
        Products<T>::put_pair(right, v, row + kLanes<T>, p[1], p[3]);
      }
    }
    if (chunk.params.grad_h != nullptr) {
      Products<T>::template multiply_turned<TileStart::kAdd>(
          products.turned(chunk.items(tile), count, hidden), right,
          {.rows = hidden, .cols = rows, .depth = count}, {block_grad, rows});
    }
    if (chunk.params.grad_items == nullptr) continue;
    T* out = chunk.params.grad_items + tile * kTileItems * hidden;
    const ProductSize size{.rows = count, .cols = hidden, .depth = rows};
    if (chunk.unpadded() && chunk.first) {
      Products<T>::template multiply<TileStart::kZero>(left, chunk.h_pairs, size, {out, hidden});
    } else if (chunk.unpadded()) {
      Products<T>::template multiply<TileStart::kAdd>(left, chunk.h_pairs, size, {out, hidden});
    } else {
      T* grad = chunk.grad_tile + worker * kTileItems * chunk.padded_hidden;
      Products<T>::template multiply<TileStart::kZero>(left, chunk.h_pairs, size,
                                                       {grad, chunk.padded_hidden});
      write_items<T>(chunk, tile, grad);
    }
    add_targets<T>(chunk, tile);
  }
}

// The gradient of kLanes rows of h from `first` on: the blocks' parts in order, then the target's
// own.
template <class T>
void join_gradient(const RoundedChunk<T>& chunk, int64_t first) {
  const int64_t hidden = chunk.params.hidden, rows = chunk.padded_rows;
  const int64_t count = std::min<int64_t>(kLanes<T>, chunk.rows - first);
  T* out = chunk.params.grad_h + (chunk.h - chunk.params.h) + first * hidden;
  for (int64_t d = 0; d < hidden; ++d) {
    Vec<T> total = {};
    for (int64_t b = 0; b < chunk.blocks; ++b) {
      total += load(chunk.block_grad + (b * chunk.padded_hidden + d) * rows + first);
    }
    for (int64_t r = 0; r < count; ++r) out[r * hidden + d] = total[r];
  }
  for (int64_t r = 0; r < count; ++r) {
    const T* target = chunk.params.items + chunk.targets[first + r] * hidden;
    const T factor = chunk.target_grad[first + r];
    for (int64_t d = 0; d < hidden; ++d) out[r * hidden + d] += target[d] * factor;
  }
}

template <class T>
void join_rows(RoundedChunk<T>& chunk) {
  for (int64_t row = 0; row < chunk.rows; ++row) {
    T weight[kMaxBlocks];
    join_row<T>(chunk, row, weight);
  }
  // Rows that are not there have probabilities of 0.
  const int64_t spare = chunk.padded_rows - chunk.rows;
  std::fill_n(chunk.row_shift + chunk.rows, spare, T(0));
  std::fill_n(chunk.row_scale + chunk.rows, spare, T(0));
}

template <class T>
void run(const ItemCrossEntropyParams<T>& params) {
  Scratch scratch;
  RoundedChunk<T> chunk(params, std::min(params.rows, kMaxRows), scratch);
  const auto forward = [&] {
    parallel_tasks(chunk.blocks,
                   [&](int64_t block, int worker) { sum_block(chunk, block, worker); });
    join_rows(chunk);
  };
  const auto backward = [&] {
    parallel_tasks(chunk.blocks, [&](int64_t block, int worker) {
      if (chunk.huge) {
        gradient_block<true>(chunk, block, worker);
      } else {
        gradient_block<false>(chunk, block, worker);
      }
    });
    if (params.grad_h == nullptr) return;
    parallel_tasks(ceil_div(chunk.rows, kLanes<T>),
                   [&](int64_t task, int) { join_gradient(chunk, task * kLanes<T>); });
  };
  const bool gradients = params.grad_items != nullptr || params.grad_h != nullptr;
  run_chunks<T>(chunk, gradients, [&] { pack_rows(chunk); }, forward, backward);
}
