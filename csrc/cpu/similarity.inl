// The kernels of similarity_cpu.cpp (see there), once per instruction set: blocks, groups, rounds.
// No #include and no namespace here; after similarity_tile.inl.

// A call's arrays beside the state. Rows are padded to W' columns and B' rows.
template <class T>
struct Work {
  const SimilarityProblem<T>& problem;
  const Plan& plan;
  T scale = 0;                    // log2(e) / temperature: similarity to powers of two
  T* values = nullptr;            // the state
  int32_t* indices = nullptr;     //
  const T* rows[kMaxViews] = {};  // [B, W'] the views, of unit length for the cosine
  T* panels[kMaxViews] = {};      // [B' / kTileCols, W, kTileCols] the same, transposed
  T* length[kMaxViews] = {};      // [B] of the views' rows, cosine only
  T* tile = nullptr;              // [workers, tile_size]
  // Statistics by block, side and the group on the other side: [2 blocks, groups, B'].
  Statistics<T> part = {};
  double* row_loss = nullptr;  // [pairs, 2, B] and the regulariser's [pairs, 2, B]

  Statistics<T> part_of(int b, int side, int64_t group, int64_t row) const {
    const int64_t at = ((2 * b + side) * plan.groups + group) * plan.padded_batch + row;
    return {part.top + at, part.index ? part.index + at : nullptr, part.shift + at, part.sum + at};
  }
  bool regularised() const { return part.index != nullptr; }
};

// Rows of one view in natural order and, transposed, in panels; `unit` [B, W'] is filled unless the
// view itself will do.
template <class T>
void pack_view(const Work<T>& work, int view, T* unit, bool panels, int64_t first, int64_t last) {
  constexpr int kCols = kTileCols<T>;
  const int64_t width = work.plan.width, padded_width = work.plan.padded_width;
  const T* x = work.problem.x[view];
  for (int64_t row = first; row < last && unit != nullptr; ++row) {
    const T* from = x + row * width;
    T* to = unit + row * padded_width;
    T factor = 1;
    if (work.problem.cosine) {
      T sum = 0;
      for (int64_t d = 0; d < width; ++d) sum += from[d] * from[d];
      work.length[view][row] = std::sqrt(sum);
      factor = std::max(work.length[view][row], T(kCosineEps));
    }
    for (int64_t d = 0; d < width; ++d) to[d] = from[d] / factor;
    std::fill(to + width, to + padded_width, T(0));
  }
  if (!panels) return;
  for (int64_t row = first; row < round_up(last, kRowUnit); ++row) {
    const T* from = work.rows[view] + row * padded_width;
    T* to = work.panels[view] + row / kCols * kCols * width + row % kCols;
    for (int64_t d = 0; d < width; ++d) to[d * kCols] = row < last ? from[d] : T(0);
  }
}

template <class T>
void prepare(Work<T>& work, Scratch& scratch, bool panels) {
  const Plan& plan = work.plan;
  const int64_t workers = worker_count();
  const bool copy = work.problem.cosine || plan.padded_width != plan.width;
  T* unit[kMaxViews] = {};
  for (int view = 0; view < work.problem.views; ++view) {
    work.rows[view] = work.problem.x[view];
    if (copy) work.rows[view] = unit[view] = scratch.take<T>(plan.batch * plan.padded_width);
    if (panels) work.panels[view] = scratch.take<T>(plan.padded_batch * plan.width);
    if (work.problem.cosine) work.length[view] = scratch.take<T>(plan.batch);
  }
  work.scale = static_cast<T>(1.44269504088896340736 / work.problem.temperature);
  work.tile = scratch.take<T>(workers * plan.tile_size());
  if (!copy && !panels) return;
  const int64_t step = std::min<int64_t>(plan.group_rows, kMaxTile);
  const int64_t pieces = (plan.batch + step - 1) / step;
  parallel_tasks(work.problem.views * pieces, [&](int64_t task, int) {
    const int view = static_cast<int>(task / pieces);
    const int64_t first = task % pieces * step;
    pack_view(work, view, unit[view], panels, first, std::min(first + step, plan.batch));
  });
}

// s [I, J] = the similarities of tile (i, j) of a block, before scaling. Columns up to whole
// register tiles beyond J are -infinity, and so is the diagonal of a self block.
template <class T>
void tile_product(const Work<T>& work, int b, const Range& i, const Range& j, T* s) {
  constexpr int kCols = kTileCols<T>;
  const Plan& plan = work.plan;
  const T* a = work.rows[plan.block[b].u] + i.begin * plan.padded_width;
  const T* panel = work.panels[plan.block[b].v] + j.begin * plan.width;
  for (int64_t col = 0; col < j.size(); col += kCols, panel += kCols * plan.width) {
    for (int64_t row = 0; row < i.size();) {
      const int count = next_tile_rows(i.size() - row);
      multiply_tile_rows<false, TileStart::kZero, T>(
          count, a + row * plan.padded_width, plan.padded_width, panel, kCols, plan.width, nullptr,
          s + row * plan.tile_stride + col, plan.tile_stride);
      row += count;
    }
  }
  const int64_t end = round_up(j.size(), kCols);
  for (int64_t row = 0; end > j.size() && row < i.size(); ++row) {
    std::fill(s + row * plan.tile_stride + j.size(), s + row * plan.tile_stride + end,
              kMinusInfinity<T>);
  }
  if (!plan.block[b].self() || i.begin != j.begin) return;
  for (int64_t row = 0; row < i.size(); ++row) s[row * (plan.tile_stride + 1)] = kMinusInfinity<T>;
}

// Tile (i, j) of a block: its exponentials in place of the similarities, their shift (infinity
// where the similarities had to stay), and its statistics joined to the groups'.
template <class T>
T forward_tile(const Work<T>& work, int b, const Range& i, const Range& j, T* s,
               const Statistics<T>& rows, const Statistics<T>& cols) {
  constexpr int kCols = kTileCols<T>;
  const int64_t stride = work.plan.tile_stride;
  const int64_t ni = i.size(), nj = j.size(), pi = round_up(ni, kCols), pj = round_up(nj, kCols);
  const bool self = work.plan.block[b].self(), diagonal = i.begin == j.begin;
  T row_top[kMaxTile], col_top[kMaxTile], row_shift[kMaxTile], col_shift[kMaxTile];
  T row_sum[kMaxTile] = {}, col_sum[kMaxTile];
  int32_t row_index[kMaxTile], col_index[kMaxTile];
  tile_product(work, b, i, j, s);
  T* positive = nullptr;
  if (!self && diagonal) {
    positive = work.values + work.plan.positive(work.plan.pair_of(b)) + i.begin;
    for (int64_t n = 0; n < ni; ++n) {
      positive[n] = s[n * (stride + 1)];
      s[n * (stride + 1)] = kMinusInfinity<T>;
    }
  }
  if (work.regularised()) {
    tile_maxima<true>(s, stride, ni, pj, row_top, row_index, col_top, col_index);
  } else {
    tile_maxima<false>(s, stride, ni, pj, row_top, row_index, col_top, col_index);
  }
  std::copy(row_top, row_top + ni, row_shift);
  std::copy(col_top, col_top + nj, col_shift);
  for (int64_t n = 0; positive != nullptr && n < ni; ++n) {
    s[n * (stride + 1)] = positive[n];
    row_shift[n] = std::max(row_shift[n], positive[n]);
    col_shift[n] = std::max(col_shift[n], positive[n]);
  }
  T low = row_shift[0], high = low;
  for (int64_t n = 0; n < ni; ++n) {
    low = std::min(low, row_shift[n]);
    high = std::max(high, row_shift[n]);
    row_shift[n] *= work.scale;
  }
  for (int64_t n = 0; n < nj; ++n) {
    low = std::min(low, col_shift[n]);
    high = std::max(high, col_shift[n]);
    col_shift[n] *= work.scale;
  }
  std::fill(row_shift + ni, row_shift + pi, high * work.scale);
  std::fill(col_shift + nj, col_shift + pj, high * work.scale);
  const Statistics<T> tile_rows{row_top, row_index, row_shift, row_sum};
  const Statistics<T> tile_cols{col_top, col_index, col_shift, col_sum};
  const bool both =
      !self || !diagonal;  // the columns of a self block's diagonal are its rows again
  if ((high - low) * work.scale <= kSpread<T>) {
    T shift[kMaxTile];
    std::fill(shift, shift + kMaxTile, high * work.scale);
    tile_exponentials(s, stride, ni, pj, work.scale, shift[0], row_sum, col_sum);
    merge(rows, tile_rows, shift, ni, j.begin);
    if (both) merge(cols, tile_cols, shift, nj, i.begin);
    return shift[0];
  }
  tile_exponentials_apart(s, stride, ni, pj, work.scale, row_shift, col_shift, row_sum, col_sum);
  merge(rows, tile_rows, row_shift, ni, j.begin);
  if (both) merge(cols, tile_cols, col_shift, nj, i.begin);
  return std::numeric_limits<T>::infinity();
}

template <class T>
void start(const Statistics<T>& group, int64_t n, T scale) {
  std::fill_n(group.top, n, kFloor<T>);
  if (group.index != nullptr) std::fill_n(group.index, n, 0);
  std::fill_n(group.shift, n, kFloor<T> * scale);
  std::fill_n(group.sum, n, T(0));
}

// What a stored tile of `rows` x `cols` does not use; no memory leaves a kernel uninitialised.
template <class T>
void clear_unused(const Plan& plan, int64_t rows, int64_t cols, T* s) {
  for (int64_t row = 0; row < plan.tile_rows; ++row) {
    const int64_t used = row < rows ? std::max<int64_t>(cols, 0) : 0;
    std::fill(s + row * plan.tile_stride + used, s + (row + 1) * plan.tile_stride, T(0));
  }
}

// All tiles of two groups of a block.
template <class T>
void forward_groups(const Work<T>& work, int b, int64_t gi, int64_t gj, bool store, int worker) {
  const Plan& plan = work.plan;
  const bool self = plan.block[b].self();
  const auto padded = [](const Range& range) { return round_up(range.size(), kRowUnit); };
  const auto rows_of = [&](int64_t row) { return work.part_of(b, 0, gj, row); };
  const auto cols_of = [&](int64_t row) { return work.part_of(b, self ? 0 : 1, gi, row); };
  start(rows_of(plan.group(gi).begin), padded(plan.group(gi)), work.scale);
  if (!self || gi != gj) start(cols_of(plan.group(gj).begin), padded(plan.group(gj)), work.scale);
  for (int64_t ti = gi * plan.tiles_per_group; ti < (gi + 1) * plan.tiles_per_group; ++ti) {
    const Range i = plan.tile(ti);
    for (int64_t tj = gj * plan.tiles_per_group; tj < (gj + 1) * plan.tiles_per_group; ++tj) {
      const Range j = plan.tile(tj);
      if (self && tj < ti) continue;
      const int64_t number = plan.tile_number(b, ti, tj);
      T* s = store ? work.values + plan.exponentials() + number * plan.tile_size()
                   : work.tile + worker * plan.tile_size();
      if (store) clear_unused(plan, i.size(), j.size(), s);
      if (i.size() <= 0 || j.size() <= 0) continue;
      const T shift = forward_tile(work, b, i, j, s, rows_of(i.begin), cols_of(j.begin));
      if (store) work.values[plan.tile_shifts() + number] = shift;
    }
  }
}

// Joins the groups of one side of a block, in order, for whole vectors of rows: the first group's
// statistics become those of the side.
template <class T>
void join_side(const Work<T>& work, int b, int side, int64_t first, int64_t last) {
  const Statistics<T> all = work.part_of(b, side, 0, 0);
  for (int64_t g = 1; g < work.plan.groups; ++g) {
    const Statistics<T> next = work.part_of(b, side, g, first);
    merge(work.part_of(b, side, 0, first), next, next.shift, last - first, 0);
  }
  if (all.index == nullptr) return;
  std::copy(all.top + first, all.top + last, work.values + work.plan.top(b, side) + first);
  std::copy(all.index + first, all.index + last, work.indices + work.plan.index(b, side) + first);
}

// Regulariser of one row (Eq. 11-13): relu(p - m) + max(p, m) for its positive p and largest
// negative m, without the mean of the negatives.
template <class T>
T row_regulariser(T positive, T self_top, T cross_top) {
  const T m = std::max(self_top, cross_top);
  return positive > m ? positive - m + positive : m;
}

// One side of a pair, whole vectors of rows: log-sum-exp over self and cross block, and row losses.
template <class T>
void join_pair(const Work<T>& work, int pair, int side, int64_t first, int64_t last) {
  const Plan& plan = work.plan;
  const SimilarityPair& views = work.problem.pair[pair];
  const int self_block = plan.self_block[side == 0 ? views.u : views.v];
  const Statistics<T> self = work.part_of(self_block, 0, 0, 0);
  const Statistics<T> cross = work.part_of(plan.cross_block(pair), side, 0, 0);
  T* shift = work.values + plan.pair_shift(pair, side);
  T* sum = work.values + plan.pair_sum(pair, side);
  const T* positive = work.values + plan.positive(pair);
  for (int64_t n = first; n < last; n += kLanes<T>) {
    const Vec<T> top = max(load(self.shift + n), load(cross.shift + n));
    Vec<T> change[2] = {load(self.shift + n) - top, load(cross.shift + n) - top};
    exp2_nonpositive(change);
    store(shift + n, top);
    store(sum + n, load(self.sum + n) * change[0] + load(cross.sum + n) * change[1]);
  }
  double* loss = work.row_loss + (2 * pair + side) * plan.batch;
  double* regulariser = loss + 2 * work.problem.pairs * plan.batch;
  for (int64_t n = first; n < std::min(last, plan.batch); ++n) {
    // -log softmax at the positive: log sum - (positive - shift), the difference rounded once.
    const T relative = std::fma(positive[n], work.scale, -shift[n]);
    loss[n] = std::log(double{sum[n]}) - 0.693147180559945309417 * double{relative};
    if (views.regularised) {
      regulariser[n] = row_regulariser(positive[n], self.top[n], cross.top[n]);
    }
  }
}

// What the mean of all negatives of a pair needs of a view: by the 2B rows z of both views, the sum
// of the negatives is |sum z|^2 - sum |z_i|^2 - 2 sum_b p_b.
struct ViewSums {
  std::vector<double> rows;  // [D] sum of the rows
  double squares = 0.0;      // sum of all |x_i|^2
};

template <class T>
ViewSums sum_view(const Work<T>& work, int view) {
  const int64_t width = work.plan.width;
  ViewSums sums{std::vector<double>(width, 0.0)};
  std::vector<double> squares(width, 0.0);
  for (int64_t row = 0; row < work.plan.batch; ++row) {
    const T* x = work.problem.x[view] + row * width;
    for (int64_t d = 0; d < width; ++d) {
      const double value = x[d];
      sums.rows[d] += value;
      squares[d] += value * value;
    }
  }
  for (const double square : squares) sums.squares += square;
  return sums;
}

template <class T>
double negative_sum(const Work<T>& work, int pair, const ViewSums& u, const ViewSums& v) {
  double sum = -u.squares - v.squares;
  for (int64_t d = 0; d < work.plan.width; ++d) {
    const double both = u.rows[d] + v.rows[d];
    sum += both * both;
  }
  const T* positive = work.values + work.plan.positive(pair);
  for (int64_t n = 0; n < work.plan.batch; ++n) sum -= 2.0 * double{positive[n]};
  return sum;
}

template <class T>
SimilarityLosses sum_losses(const Work<T>& work) {
  const double rows = 2.0 * static_cast<double>(work.plan.batch);
  const int64_t count = 2 * work.plan.batch;
  SimilarityLosses losses;
  ViewSums sums[kMaxViews];
  for (int view = 0; work.regularised() && view < work.problem.views; ++view) {
    sums[view] = sum_view(work, view);
  }
  for (int pair = 0; pair < work.problem.pairs; ++pair) {
    const double* loss = work.row_loss + pair * count;
    const double* regulariser = loss + work.problem.pairs * count;
    double total = 0.0;
    for (int64_t n = 0; n < count; ++n) total += loss[n];
    const SimilarityPair& views = work.problem.pair[pair];
    losses.contrast[views.loss] += total / rows;
    if (!views.regularised) continue;
    total = 0.0;
    for (int64_t n = 0; n < count; ++n) total += regulariser[n];
    losses.regulariser += total / rows - negative_sum(work, pair, sums[views.u], sums[views.v]) /
                                             (rows * (rows - 2.0));
  }
  return losses;
}

template <class T>
SimilarityLosses forward(const SimilarityProblem<T>& problem, T* values, int32_t* indices) {
  const Plan plan = make_plan(problem);
  Scratch scratch;
  Work<T> work{problem, plan};
  const bool store = values != nullptr && plan.stored;
  work.values = values != nullptr ? values : scratch.take<T>(plan.exponentials());
  work.indices = indices != nullptr ? indices : scratch.take<int32_t>(plan.state_size().indices);
  std::fill_n(work.values, plan.exponentials(), T(0));
  std::fill_n(work.indices, plan.state_size().indices, 0);
  prepare(work, scratch, true);
  const int64_t rows = 2 * plan.blocks * plan.groups * plan.padded_batch;
  work.part = {scratch.take<T>(rows), nullptr, scratch.take<T>(rows), scratch.take<T>(rows)};
  bool regularised = false;
  for (int p = 0; p < problem.pairs; ++p) regularised |= problem.pair[p].regularised;
  if (regularised) work.part.index = scratch.take<int32_t>(rows);
  work.row_loss = scratch.take<double>(4 * problem.pairs * plan.batch);

  const std::vector<GroupTask> tasks = forward_tasks(plan);
  parallel_tasks(static_cast<int64_t>(tasks.size()), [&](int64_t t, int worker) {
    const GroupTask& task = tasks[static_cast<size_t>(t)];
    forward_groups(work, task.block, task.gi, task.gj, store, worker);
  });
  parallel_tasks((plan.batch + kMaxTile - 1) / kMaxTile, [&](int64_t t, int) {
    const int64_t first = t * kMaxTile, last = std::min(first + kMaxTile, plan.padded_batch);
    for (int b = 0; b < plan.blocks; ++b) {
      for (int side = 0; side < (plan.block[b].self() ? 1 : 2); ++side) {
        join_side(work, b, side, first, last);
      }
    }
    for (int pair = 0; pair < problem.pairs; ++pair) {
      for (int side = 0; side < 2; ++side) join_pair(work, pair, side, first, last);
    }
  });
  return sum_losses(work);
}
