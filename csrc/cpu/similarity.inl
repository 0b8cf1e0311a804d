// The kernels of similarity_cpu.cpp (see there), compiled once per instruction set: blocks, groups,
// rounds. The gradients' are at the end. Named for what they work on, not for an op: info_nce and
// contrast both come here (similarity_cpu.h).
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "gemm_tile.inl"
#include "similarity_tile.inl"
// clang-format on

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
  const int64_t hidden = work.plan.hidden, padded_hidden = work.plan.padded_hidden;
  const T* x = work.problem.x[view];
  for (int64_t row = first; row < last && unit != nullptr; ++row) {
    const T* from = x + row * hidden;
    T* to = unit + row * padded_hidden;
    T factor = 1;
    if (work.problem.cosine) {
      T sum = 0;
      for (int64_t d = 0; d < hidden; ++d) sum += from[d] * from[d];
      work.length[view][row] = std::sqrt(sum);
      factor = std::max(work.length[view][row], T(kCosineEps));
    }
    for (int64_t d = 0; d < hidden; ++d) to[d] = from[d] / factor;
    std::fill(to + hidden, to + padded_hidden, T(0));
  }
  if (!panels) return;
  for (int64_t row = first; row < round_up(last, work.plan.unit); ++row) {
    const T* from = work.rows[view] + row * padded_hidden;
    T* to = work.panels[view] + row / kCols * kCols * hidden + row % kCols;
    for (int64_t d = 0; d < hidden; ++d) to[d * kCols] = row < last ? from[d] : T(0);
  }
}

template <class T>
void prepare(Work<T>& work, Scratch& scratch, bool panels) {
  const Plan& plan = work.plan;
  const int64_t workers = worker_count();
  const bool copy = work.problem.cosine || plan.padded_hidden != plan.hidden;
  T* unit[kMaxViews] = {};
  for (int view = 0; view < work.problem.views; ++view) {
    work.rows[view] = work.problem.x[view];
    if (copy) work.rows[view] = unit[view] = scratch.take<T>(plan.batch * plan.padded_hidden);
    if (panels) work.panels[view] = scratch.take<T>(plan.padded_batch * plan.hidden);
    if (work.problem.cosine) work.length[view] = scratch.take<T>(plan.batch);
  }
  work.scale = static_cast<T>(1.44269504088896340736 / work.problem.temperature);
  work.tile = scratch.take<T>(workers * plan.tile_size());
  if (!copy && !panels) return;
  const int64_t step = std::min<int64_t>(plan.group_rows, kMaxTile);
  const int64_t pieces = ceil_div(plan.batch, step);
  parallel_tasks(work.problem.views * pieces, [&](int64_t task, int) {
    const int view = static_cast<int>(task / pieces);
    const int64_t first = task % pieces * step;
    pack_view(work, view, unit[view], panels, first, std::min(first + step, plan.batch));
  });
}

// Tile (i, j) of a block.
template <class T>
struct Tile {
  const Work<T>& work;
  int block;
  Range i, j;

  bool self() const { return work.plan.block[block].self(); }
  bool diagonal() const { return i.begin == j.begin; }
  bool triangle() const { return self() && diagonal(); }
  int64_t cols() const { return round_up(j.size(), kTileCols<T>); }
  TileShape shape() const {
    return {
        .rows = i.size(), .cols = cols(), .stride = work.plan.tile_stride, .triangle = triangle()};
  }
};

// One panel of columns of the similarities, before scaling: s [rows, kTileCols] at column `col` of
// the tile. Columns beyond J are -infinity, and so is what lies on or below the diagonal of a
// triangle. Returns the number of rows.
template <class T>
int64_t panel_product(const Tile<T>& tile, int64_t col, T* s) {
  constexpr int kCols = kTileCols<T>;
  const Work<T>& work = tile.work;
  const Plan& plan = work.plan;
  const int64_t rows = end_row<T>(tile.triangle(), col, tile.i.size());
  const T* a = work.rows[plan.block[tile.block].u] + tile.i.begin * plan.padded_hidden;
  const T* panel = work.panels[plan.block[tile.block].v] + (tile.j.begin + col) * plan.hidden;
  for (int64_t row = 0; row < rows;) {
    const int count = next_tile_rows(rows - row);
    multiply_tile_rows<false, TileStart::kZero, T>(
        count, {a + row * plan.padded_hidden, plan.padded_hidden}, {panel, kCols}, plan.hidden,
        {s + row * plan.tile_stride, plan.tile_stride});
    row += count;
  }
  const int64_t used = std::min<int64_t>(tile.j.size() - col, kCols);
  for (int64_t row = 0; used < kCols && row < rows; ++row) {
    T* to = s + row * plan.tile_stride;
    std::fill(to + used, to + kCols, kMinusInfinity<T>);
  }
  for (int64_t row = col; tile.triangle() && row < rows; ++row) {
    T* to = s + row * plan.tile_stride;
    std::fill(to, to + row - col + 1, kMinusInfinity<T>);
  }
  return rows;
}

// The similarities of the tile, and the maxima of its rows and columns. The positives [I], null
// where the tile has none, stay out of the maxima.
template <bool kIndex, class T>
void product_and_maxima(const Tile<T>& tile, T* s, T* positive, const Statistics<T>& rows,
                        const Statistics<T>& cols) {
  constexpr int kCols = kTileCols<T>;
  const int64_t stride = tile.work.plan.tile_stride;
  RowMaxima<T> maxima;
  maxima.start(tile.i.size());
  for (int64_t col = 0; col < tile.cols(); col += kCols) {
    const int64_t count = panel_product(tile, col, s + col);
    const int64_t end = positive != nullptr ? std::min(col + kCols, count) : 0;
    for (int64_t n = col; n < end; ++n) {
      positive[n] = s[n * (stride + 1)];
      s[n * (stride + 1)] = kMinusInfinity<T>;
    }
    panel_maxima<kIndex>(s + col, stride, count, col, maxima, cols.top + col, cols.index + col);
    for (int64_t n = col; n < end; ++n) s[n * (stride + 1)] = positive[n];
  }
  row_maxima<kIndex>(maxima, tile.i.size(), rows.top, rows.index);
}

// The largest similarity of each row and column, positives included, in powers of two. In a
// triangle row n and column n are the same row, which may have entries in only one of them. Returns
// the smallest and the largest.
template <class T>
std::pair<T, T> find_shifts(const Tile<T>& tile, const T* positive, const Statistics<T>& rows,
                            const Statistics<T>& cols) {
  T low = std::numeric_limits<T>::max(), high = kFloor<T>;
  const auto find = [&](const Statistics<T>& side, const Statistics<T>& other, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      T top = side.top[i];
      if (positive != nullptr) top = std::max(top, positive[i]);
      if (tile.triangle()) top = std::max(top, other.top[i]);
      low = std::min(low, top);
      high = std::max(high, top);
      side.shift[i] = top * tile.work.scale;
    }
  };
  find(rows, cols, tile.i.size());
  find(cols, rows, tile.j.size());
  return {low * tile.work.scale, high * tile.work.scale};
}

// The tile's exponentials in place of the similarities and its statistics joined to the groups';
// returns the exponentials' shift, infinity where the similarities had to stay.
template <class T>
T forward_tile(const Tile<T>& tile, T* s, const Statistics<T>& rows, const Statistics<T>& cols) {
  const Work<T>& work = tile.work;
  const int64_t ni = tile.i.size(), nj = tile.j.size();
  T row_top[kMaxTile], col_top[kMaxTile], row_shift[kMaxTile], col_shift[kMaxTile];
  T row_sum[kMaxTile] = {}, col_sum[kMaxTile];
  int32_t row_index[kMaxTile], col_index[kMaxTile];
  const Statistics<T> own_rows{row_top, row_index, row_shift, row_sum};
  const Statistics<T> own_cols{col_top, col_index, col_shift, col_sum};
  T* positive = nullptr;
  if (!tile.self() && tile.diagonal()) {
    positive = work.values + work.plan.positive(work.plan.pair_of(tile.block)) + tile.i.begin;
  }
  if (work.regularised()) {
    product_and_maxima<true>(tile, s, positive, own_rows, own_cols);
  } else {
    product_and_maxima<false>(tile, s, positive, own_rows, own_cols);
  }
  const auto [low, shift] = find_shifts(tile, positive, own_rows, own_cols);
  // Up to whole vectors: nothing that could raise a group's shift.
  std::fill(row_shift + ni, row_shift + kMaxTile, shift);
  std::fill(col_shift + nj, col_shift + kMaxTile, shift);
  const bool close = shift - low <= kSpread<T>;
  T shifts[kMaxTile];
  if (close) {
    std::fill(shifts, shifts + kMaxTile, shift);
    tile_exponentials(s, tile.shape(), work.scale, shift, row_sum, col_sum);
  } else {
    tile_exponentials_apart(s, tile.shape(), work.scale, row_shift, col_shift, row_sum, col_sum);
  }
  // Columns first: in a triangle they are rows too, met by earlier ones there.
  merge(cols, own_cols, close ? shifts : col_shift, nj, tile.i.begin);
  merge(rows, own_rows, close ? shifts : row_shift, ni, tile.j.begin);
  return close ? shift : std::numeric_limits<T>::infinity();
}

template <class T>
void start(const Statistics<T>& group, int64_t n, T scale) {
  std::fill_n(group.top, n, kFloor<T>);
  if (group.index != nullptr) std::fill_n(group.index, n, 0);
  std::fill_n(group.shift, n, kFloor<T> * scale);
  std::fill_n(group.sum, n, T(0));
}

// Zeros where a tile holds nothing: no memory leaves a kernel uninitialised, and the products of
// the gradient may read what lies below a triangle.
template <class T>
void clear_unused(const Tile<T>& tile, T* s) {
  const Plan& plan = tile.work.plan;
  for (int64_t row = 0; row < plan.tile_rows; ++row) {
    T* at = s + row * plan.tile_stride;
    const int64_t used = row < tile.i.size() ? std::max<int64_t>(tile.j.size(), 0) : 0;
    std::fill(at + used, at + plan.tile_stride, T(0));
    std::fill(at, at + std::min(first_col<T>(tile.triangle(), row), used), T(0));
  }
}

// All tiles of two groups of a block.
template <class T>
void forward_groups(const Work<T>& work, int b, int64_t gi, int64_t gj, bool store, int worker) {
  const Plan& plan = work.plan;
  const bool self = plan.block[b].self();
  const auto padded = [&](const Range& range) { return round_up(range.size(), plan.unit); };
  const auto rows_of = [&](int64_t row) { return work.part_of(b, 0, gj, row); };
  const auto cols_of = [&](int64_t row) { return work.part_of(b, self ? 0 : 1, gi, row); };
  start(rows_of(plan.group(gi).begin), padded(plan.group(gi)), work.scale);
  if (!self || gi != gj) start(cols_of(plan.group(gj).begin), padded(plan.group(gj)), work.scale);
  for (int64_t ti = gi * plan.tiles_per_group; ti < (gi + 1) * plan.tiles_per_group; ++ti) {
    for (int64_t tj = gj * plan.tiles_per_group; tj < (gj + 1) * plan.tiles_per_group; ++tj) {
      if (self && tj < ti) continue;
      const Tile<T> tile{work, b, plan.tile(ti), plan.tile(tj)};
      const int64_t number = plan.tile_number(b, ti, tj);
      T* s = store ? work.values + plan.exponentials() + number * plan.tile_size()
                   : work.tile + worker * plan.tile_size();
      if (store) clear_unused(tile, s);
      if (tile.i.size() <= 0 || tile.j.size() <= 0) continue;
      const T shift = forward_tile(tile, s, rows_of(tile.i.begin), cols_of(tile.j.begin));
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
  const int64_t hidden = work.plan.hidden;
  ViewSums sums{std::vector<double>(hidden, 0.0)};
  std::vector<double> squares(hidden, 0.0);
  for (int64_t row = 0; row < work.plan.batch; ++row) {
    const T* x = work.problem.x[view] + row * hidden;
    for (int64_t d = 0; d < hidden; ++d) {
      const double value = x[d];
      sums.rows[d] += value;
      squares[d] += value * value;
    }
  }
  for (const double square : squares) sums.squares += square;
  return sums;
}

template <class T>
void sum_views(const Work<T>& work, ViewSums (&sums)[kMaxViews]) {
  parallel_tasks(work.problem.views,
                 [&](int64_t view, int) { sums[view] = sum_view(work, static_cast<int>(view)); });
}

template <class T>
double negative_sum(const Work<T>& work, int pair, const ViewSums& u, const ViewSums& v) {
  double sum = -u.squares - v.squares, total = 0.0;
  for (int64_t d = 0; d < work.plan.hidden; ++d) {
    const double both = u.rows[d] + v.rows[d];
    sum += both * both;
    total += both * both;
  }
  const T* positive = work.values + work.plan.positive(pair);
  for (int64_t n = 0; n < work.plan.batch; ++n) sum -= 2.0 * double{positive[n]};
  // Beyond what T holds the losses are infinite, and infinity less infinity is no number.
  const double most = std::numeric_limits<T>::max();
  const bool held = total <= most && u.squares <= most && v.squares <= most;
  return held ? sum : std::numeric_limits<double>::quiet_NaN();
}

template <class T>
SimilarityLosses sum_losses(const Work<T>& work) {
  const double rows = 2.0 * static_cast<double>(work.plan.batch);
  const int64_t count = 2 * work.plan.batch;
  SimilarityLosses losses;
  ViewSums sums[kMaxViews];
  if (work.regularised()) sum_views(work, sums);
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
  const Plan plan = make_plan(problem, kPadding);
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
  parallel_tasks(ceil_div(plan.batch, kMaxTile), [&](int64_t t, int) {
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

#include "similarity_backward.inl"
