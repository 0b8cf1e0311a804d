// The inner loops of target_rank for one instruction set: a block of rows against a range of items,
// scores counted tile by tile and never kept. Included by target_rank_cpu.cpp.
// clang-format off
#include "simd.inl"
#include "fixed_order.inl"
#include "gemm_tile.inl"
// clang-format on

// Lanes of a panel that hold items, as masks.
template <class T>
struct PanelMask {
  IntVec<T> half[2];

  MCLREC_INLINE explicit PanelMask(int64_t items)
      : half{first_lanes<T>(items), first_lanes<T>(items - kLanes<T>)} {}
};

// Counts one tile: scores [R rows of kTileCols] against each row's target score. higher[r] and
// equal[r] go down by one a hit (a comparison gives -1). Equal scores are rare: one test a tile.
template <bool kPartial, class T>
MCLREC_INLINE void count_tile(const T* scores, int rows, const T* target, const PanelMask<T>& mask,
                              IntVec<T>* higher, IntVec<T>* equal) {
  IntVec<T> any = {};
  for (int r = 0; r < rows; ++r, scores += kTileCols<T>) {
    const Vec<T> limit = broadcast(target[r]);
    const Vec<T> low = load(scores), high = load(scores + kLanes<T>);
    IntVec<T> above_low = low > limit, above_high = high > limit;
    IntVec<T> same_low = low == limit, same_high = high == limit;
    if constexpr (kPartial) {
      above_low &= mask.half[0], above_high &= mask.half[1];
      same_low &= mask.half[0], same_high &= mask.half[1];
    }
    higher[r] += above_low + above_high;
    any |= same_low | same_high;
  }
  if (lane_bits<T>(any) == 0) return;
  scores -= rows * kTileCols<T>;
  for (int r = 0; r < rows; ++r, scores += kTileCols<T>) {
    const Vec<T> limit = broadcast(target[r]);
    IntVec<T> low = load(scores) == limit, high = load(scores + kLanes<T>) == limit;
    if constexpr (kPartial) low &= mask.half[0], high &= mask.half[1];
    equal[r] += low + high;
  }
}

// Counts, for the block's rows of h, the items of [first, last) that score above and equal to the
// row's target score.
template <class T>
void rank_block(const RankBlock<T>& block) {
  const int64_t rows = block.rows, hidden = block.hidden, last = block.last;
  const T* target = block.target;
  auto* higher_lanes = static_cast<IntVec<T>*>(block.scratch);  // [rows]
  IntVec<T>* equal_lanes = higher_lanes + rows;                 // [rows]
  T* panel = reinterpret_cast<T*>(equal_lanes + rows);          // [hidden, kTileCols]
  std::memset(block.scratch, 0, sizeof(IntVec<T>) * static_cast<size_t>(2 * rows));
  alignas(kVectorBytes) T scores[kTileRows * kTileCols<T>];
  for (int64_t item = block.first; item < last; item += kTileCols<T>) {
    const int64_t width = last - item < kTileCols<T> ? last - item : kTileCols<T>;
    const PanelMask<T> mask(width);
    pack_panels(block.items + item * hidden, 1, hidden, hidden, width, panel);
    for (int64_t row = 0; row < rows;) {
      const int count = next_tile_rows(rows - row);
      multiply_tile_rows<false, TileStart::kZero, T>(count, {block.h + row * hidden, hidden},
                                                     {panel, kTileCols<T>}, hidden,
                                                     {scores, kTileCols<T>});
      if (width == kTileCols<T>) {
        count_tile<false>(scores, count, target + row, mask, higher_lanes + row, equal_lanes + row);
      } else {
        count_tile<true>(scores, count, target + row, mask, higher_lanes + row, equal_lanes + row);
      }
      row += count;
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    int64_t above = 0, same = 0;
    for (int i = 0; i < kLanes<T>; ++i) above -= higher_lanes[row][i], same -= equal_lanes[row][i];
    block.higher[row] = above;
    block.equal[row] = same;
  }
}
