// Gradients of similarity_cpu.cpp (see there), once per instruction set; after similarity.inl.
// With S the similarities of a block and W = d loss / d S, d loss / d X_u = W X_v and
// d loss / d X_v = W^T X_u. W_ij sums the softmax of row i and of column j over the pairs that the
// block serves, and a few entries of its own: positives, and the largest negative of each row.

// What the rows of one side of a block give W.
template <class T>
struct SideGradient {
  T* shift;              // [B'] Weights of the side
  T* coefficient;        // [B']
  T* top;                // [B'] d loss / d (largest negative), with the regulariser only
  const int32_t* index;  // [B'] where that is
};

template <class T>
struct BackwardWork {
  const Work<T>& work;
  const SimilarityGradients<T>& gradients;
  SideGradient<T> side[kMaxBlocks][2] = {};
  T* positive[kMaxPairs] = {};  // [B'] d loss / d positive
  T* grad[kMaxViews] = {};      // [B, W'] what the products add to; null where not wanted
  bool regularised = false;
};

template <class T>
void take_sides(BackwardWork<T>& b, Scratch& scratch) {
  const Plan& plan = b.work.plan;
  const int64_t rows = plan.padded_batch;
  const auto zeros = [&] {
    T* array = scratch.take<T>(rows);
    std::fill_n(array, rows, T(0));
    return array;
  };
  for (int block = 0; block < plan.blocks; ++block) {
    for (int side = 0; side < 2; ++side) {
      b.side[block][side] = {zeros(), zeros(), b.regularised ? zeros() : nullptr,
                             b.regularised ? b.work.indices + plan.index(block, side) : nullptr};
    }
  }
  for (int pair = 0; pair < b.work.problem.pairs; ++pair) b.positive[pair] = zeros();
}

// The softmax weights of some rows of one side of a pair join those of its self and cross block.
// `fresh` says that no earlier pair has used the self block.
template <class T>
void add_weights(const BackwardWork<T>& b, int pair, int side, bool fresh, const Range& range) {
  const Plan& plan = b.work.plan;
  const SimilarityPair& views = b.work.problem.pair[pair];
  const SideGradient<T>& self = b.side[plan.self_block[side == 0 ? views.u : views.v]][0];
  const SideGradient<T>& cross = b.side[plan.cross_block(pair)][side];
  const T* shift = b.work.values + plan.pair_shift(pair, side);
  const T* sum = b.work.values + plan.pair_sum(pair, side);
  // d / d similarity of the mean over 2B rows of (log-sum-exp - positive) / temperature.
  const T share = static_cast<T>(double{b.gradients.contrast[views.loss]} /
                                 (2.0 * plan.batch * b.work.problem.temperature));
  for (int64_t n = range.begin; n < range.end; ++n) {
    const T coefficient = share / sum[n];
    cross.shift[n] = shift[n];
    cross.coefficient[n] = coefficient;
    b.positive[pair][n] -= share;
    if (fresh) {
      self.shift[n] = shift[n];
      self.coefficient[n] = coefficient;
      continue;
    }
    const T low = std::min(self.shift[n], shift[n]);
    self.coefficient[n] = self.coefficient[n] * std::exp2(low - self.shift[n]) +
                          coefficient * std::exp2(low - shift[n]);
    self.shift[n] = low;
  }
}

// d / d (positive and largest negative) of relu(p - m) + max(p, m); where they are equal, relu has
// no gradient and max gives each half. m = max(self, cross) again gives each half when equal.
template <class T>
void add_regulariser(const BackwardWork<T>& b, int pair, int side, const Range& range) {
  const Plan& plan = b.work.plan;
  const SimilarityPair& views = b.work.problem.pair[pair];
  const int self_block = plan.self_block[side == 0 ? views.u : views.v];
  const int cross_block = plan.cross_block(pair);
  const T* self = b.work.values + plan.top(self_block, 0);
  const T* cross = b.work.values + plan.top(cross_block, side);
  const T* positive = b.work.values + plan.positive(pair);
  const double rows = 2.0 * static_cast<double>(plan.batch);
  const T share = static_cast<T>(double{b.gradients.regulariser} / rows);
  // The positive also stands in the sum of the negatives, once for each side.
  const T in_sum = static_cast<T>(double{b.gradients.regulariser} / (rows * (rows - 2.0)));
  for (int64_t n = range.begin; n < range.end; ++n) {
    const T p = positive[n], m = std::max(self[n], cross[n]);
    const T to_p = p > m ? T(2) : p == m ? T(0.5) : T(0);
    const T to_m = p > m ? T(-1) : p == m ? T(0.5) : T(1);
    const T to_self = self[n] > cross[n] ? T(1) : self[n] == cross[n] ? T(0.5) : T(0);
    b.positive[pair][n] += share * to_p + in_sum;
    b.side[self_block][0].top[n] += share * to_m * to_self;
    b.side[cross_block][side].top[n] += share * to_m * (T(1) - to_self);
  }
}

// The entries of W that are not softmax weights.
template <class T>
void add_entries(const BackwardWork<T>& b, const Tile<T>& tile, T* w) {
  const Plan& plan = b.work.plan;
  const int64_t stride = plan.tile_stride;
  const Range &i = tile.i, &j = tile.j;
  if (!tile.self() && tile.diagonal()) {
    const T* positive = b.positive[plan.pair_of(tile.block)] + i.begin;
    for (int64_t n = 0; n < i.size(); ++n) w[n * (stride + 1)] += positive[n];
  }
  if (!b.regularised) return;
  const SideGradient<T>& rows = b.side[tile.block][0];
  const SideGradient<T>& cols = b.side[tile.block][tile.self() ? 0 : 1];
  for (int64_t n = i.begin; n < i.end; ++n) {
    const int64_t at = rows.index[n];
    if (at < j.begin || at >= j.end) continue;
    const bool below = tile.triangle() && at < n;
    const int64_t row = below ? at : n, col = below ? n : at;
    w[(row - i.begin) * stride + col - j.begin] += rows.top[n];
  }
  if (tile.triangle()) return;
  for (int64_t n = j.begin; n < j.end; ++n) {
    const int64_t at = cols.index[n];
    if (at >= i.begin && at < i.end) w[(at - i.begin) * stride + n - j.begin] += cols.top[n];
  }
}

// W of tile (ti, tj) into `w`: from the stored exponentials, or from the product again.
template <class T>
void gradient_tile(const BackwardWork<T>& b, const Tile<T>& tile, int64_t ti, int64_t tj, T* w) {
  const Plan& plan = b.work.plan;
  const int64_t stride = plan.tile_stride, rows = tile.i.size(), cols = tile.cols();
  const SideGradient<T>& row = b.side[tile.block][0];
  const SideGradient<T>& col = b.side[tile.block][tile.self() ? 0 : 1];
  const Weights<T> row_weights{row.shift + tile.i.begin, row.coefficient + tile.i.begin};
  const Weights<T> col_weights{col.shift + tile.j.begin, col.coefficient + tile.j.begin};
  T shift = std::numeric_limits<T>::infinity();
  const T* s = nullptr;
  if (plan.stored) {
    const int64_t number = plan.tile_number(tile.block, ti, tj);
    s = b.work.values + plan.exponentials() + number * plan.tile_size();
    shift = b.work.values[plan.tile_shifts() + number];
  }
  if (tile.triangle()) clear_unused(tile, w);
  if (shift != std::numeric_limits<T>::infinity()) {
    weigh_exponentials(s, w, tile.shape(), shift, row_weights, col_weights);
  } else {
    if (s != nullptr) {
      std::copy(s, s + rows * stride, w);
    } else {
      for (int64_t n = 0; n < cols; n += kTileCols<T>) panel_product(tile, n, w + n);
    }
    weigh_similarities(w, tile.shape(), b.work.scale, row_weights, col_weights);
  }
  add_entries(b, tile, w);
}

// grad_u[i] += w x_v[j] and grad_v[j] += w^T x_u[i], where wanted. A triangle has both for one
// view, and each product stops at the diagonal.
template <class T>
void multiply_gradient(const BackwardWork<T>& b, const Tile<T>& tile, const T* w) {
  constexpr int kCols = kTileCols<T>;
  const Plan& plan = b.work.plan;
  const int64_t hidden = plan.padded_hidden, stride = plan.tile_stride;
  const int64_t ni = tile.i.size(), nj = tile.j.size();
  const Block& views = plan.block[tile.block];
  if (T* grad = b.grad[views.u]; grad != nullptr) {
    const T* x = b.work.rows[views.v] + tile.j.begin * hidden;
    for (int64_t d = 0; d < hidden; d += kCols) {
      for (int64_t row = 0; row < ni;) {
        const int count = next_tile_rows(ni - row);
        const int64_t first = first_col<T>(tile.triangle(), row);
        multiply_tile_rows<false, TileStart::kAdd, T>(
            count, {w + row * stride + first, stride}, {x + first * hidden + d, hidden}, nj - first,
            {grad + (tile.i.begin + row) * hidden + d, hidden});
        row += count;
      }
    }
  }
  if (T* grad = b.grad[views.v]; grad != nullptr) {
    const T* x = b.work.rows[views.u] + tile.i.begin * hidden;
    for (int64_t d = 0; d < hidden; d += kCols) {
      for (int64_t col = 0; col < nj;) {
        const int count = next_tile_rows(nj - col);
        const int64_t last = end_row<T>(tile.triangle(), col + count - 1, ni);
        multiply_tile_rows<true, TileStart::kAdd, T>(
            count, {w + col, stride}, {x + d, hidden}, last,
            {grad + (tile.j.begin + col) * hidden + d, hidden});
        col += count;
      }
    }
  }
}

template <class T>
void backward_groups(const BackwardWork<T>& b, const GroupTask& task, int worker) {
  const Plan& plan = b.work.plan;
  const int64_t per_group = plan.tiles_per_group;
  T* w = b.work.tile + worker * plan.tile_size();
  for (int64_t ti = task.gi * per_group; ti < (task.gi + 1) * per_group; ++ti) {
    for (int64_t tj = task.gj * per_group; tj < (task.gj + 1) * per_group; ++tj) {
      const Tile<T> tile{b.work, task.block, plan.tile(ti), plan.tile(tj)};
      if (tile.i.size() <= 0 || tile.j.size() <= 0 || (tile.self() && tj < ti)) continue;
      gradient_tile(b, tile, ti, tj, w);
      multiply_gradient(b, tile, w);
    }
  }
}

// The gradient of the mean of the negatives, -sum / (N (N - 2)): -2 (sum z - z_i - z_i') per row i
// with its positive i' (the positives themselves are in `positive`, as entries of W).
template <class T>
void add_negative_mean(const BackwardWork<T>& b, int view, int64_t first, int64_t last,
                       const ViewSums* sums, T* grad, int64_t stride) {
  const Plan& plan = b.work.plan;
  const double rows = 2.0 * static_cast<double>(plan.batch);
  const double factor = -2.0 * double{b.gradients.regulariser} / (rows * (rows - 2.0));
  std::vector<T> sum(plan.hidden);
  for (int pair = 0; pair < b.work.problem.pairs; ++pair) {
    const SimilarityPair& views = b.work.problem.pair[pair];
    if (!views.regularised || (views.u != view && views.v != view)) continue;
    for (int64_t d = 0; d < plan.hidden; ++d) {
      sum[d] = static_cast<T>(factor * (sums[views.u].rows[d] + sums[views.v].rows[d]));
    }
    const T* own = b.work.problem.x[view];
    for (int64_t n = first; n < last; ++n) {
      T* to = grad + n * stride;
      for (int64_t d = 0; d < plan.hidden; ++d) {
        to[d] += sum[d] - static_cast<T>(factor) * own[n * plan.hidden + d];
      }
    }
  }
}

// Rows [first, last) of the gradient of a view, finished: through the length for the cosine
// (d x = (d unit - unit (unit . d unit)) / length), and to where the caller wants it.
template <class T>
void finish_rows(const BackwardWork<T>& b, int view, int64_t first, int64_t last,
                 const ViewSums* sums) {
  const Plan& plan = b.work.plan;
  const int64_t hidden = plan.hidden, padded_hidden = plan.padded_hidden;
  T* grad = b.grad[view];
  if (b.regularised) add_negative_mean(b, view, first, last, sums, grad, padded_hidden);
  T* out = b.gradients.x[view];
  if (out == grad) return;
  for (int64_t n = first; n < last; ++n) {
    const T* from = grad + n * padded_hidden;
    T factor = 1, along = 0;
    const T* unit = b.work.rows[view] + n * padded_hidden;
    if (b.work.problem.cosine) {
      const T length = b.work.length[view][n];
      factor = T(1) / std::max(length, T(kCosineEps));
      for (int64_t d = 0; length > T(kCosineEps) && d < hidden; ++d) along += from[d] * unit[d];
    }
    T* to = out + n * hidden;
    for (int64_t d = 0; d < hidden; ++d) {
      const T value = (from[d] - along * unit[d]) * factor;
      to[d] = b.gradients.add ? to[d] + value : value;
    }
  }
}

template <class T>
void take_gradients(BackwardWork<T>& b, Scratch& scratch) {
  const Plan& plan = b.work.plan;
  const SimilarityProblem<T>& problem = b.work.problem;
  for (int pair = 0; pair < problem.pairs; ++pair) b.regularised |= problem.pair[pair].regularised;
  take_sides(b, scratch);
  const bool direct = !problem.cosine && plan.padded_hidden == plan.hidden && !b.gradients.add;
  for (int view = 0; view < problem.views; ++view) {
    if (b.gradients.x[view] == nullptr) continue;
    const int64_t size = plan.batch * plan.padded_hidden;
    b.grad[view] = direct ? b.gradients.x[view] : scratch.take<T>(size);
  }
}

// What some rows of each side give W, and zeros for their gradients to be added to.
template <class T>
void start_rows(const BackwardWork<T>& b, const Range& rows) {
  const SimilarityProblem<T>& problem = b.work.problem;
  bool seen[kMaxViews] = {};
  for (int pair = 0; pair < problem.pairs; ++pair) {
    const SimilarityPair& views = problem.pair[pair];
    for (int side = 0; side < 2; ++side) {
      bool& known = seen[side == 0 ? views.u : views.v];
      add_weights(b, pair, side, !known, rows);
      known = true;
      if (views.regularised) add_regulariser(b, pair, side, rows);
    }
  }
  const int64_t hidden = b.work.plan.padded_hidden;
  for (int view = 0; view < problem.views; ++view) {
    if (b.grad[view] == nullptr) continue;
    std::fill(b.grad[view] + rows.begin * hidden, b.grad[view] + rows.end * hidden, T(0));
  }
}

template <class T>
void backward(const SimilarityProblem<T>& problem, const T* values, const int32_t* indices,
              const SimilarityGradients<T>& gradients) {
  const Plan plan = make_plan(problem, kPadding);
  Scratch scratch;
  Work<T> work{problem, plan};
  // Read only from here on.
  work.values = const_cast<T*>(values);
  work.indices = const_cast<int32_t*>(indices);
  prepare(work, scratch, !plan.stored);
  BackwardWork<T> b{work, gradients};
  take_gradients(b, scratch);
  const int64_t pieces = ceil_div(plan.batch, kMaxTile);
  const auto piece = [&](int64_t n) {
    return Range{n * kMaxTile, std::min((n + 1) * kMaxTile, plan.batch)};
  };
  parallel_tasks(pieces, [&](int64_t n, int) { start_rows(b, piece(n)); });
  const auto wanted = [&](int block) {
    return b.grad[plan.block[block].u] != nullptr || b.grad[plan.block[block].v] != nullptr;
  };
  for (const std::vector<GroupTask>& round : backward_rounds(plan, wanted)) {
    parallel_tasks(static_cast<int64_t>(round.size()), [&](int64_t t, int worker) {
      backward_groups(b, round[static_cast<size_t>(t)], worker);
    });
  }
  ViewSums sums[kMaxViews];
  if (b.regularised) sum_views(work, sums);
  parallel_tasks(problem.views * pieces, [&](int64_t t, int) {
    const int view = static_cast<int>(t / pieces);
    const Range rows = piece(t % pieces);
    if (b.grad[view] != nullptr) finish_rows(b, view, rows.begin, rows.end, sums);
  });
}
