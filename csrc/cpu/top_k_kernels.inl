// The inner loops of top_k for one instruction set: a block of rows against a range of items. Each
// tile is compared with each row's threshold; the few scores above it go to the row's collector.
// Included by top_k_cpu.cpp, which defines Collector.
// clang-format off
#include "simd.inl"
#include "fixed_order.inl"
#include "gemm_tile.inl"
// clang-format on

// Notes which rows have a score that is infinite or no number, among the valid columns. All is well
// nearly always, so a tile's rows are looked at together first.
template <class T>
MCLREC_INLINE void look_for_not_finite(const T* scores, int rows, uint32_t valid_bits,
                                       Collector<T>* collectors) {
  const Vec<T> zero = {};
  Vec<T> all = {};  // becomes NaN
  for (int i = 0; i < 2 * rows; ++i) all = fma(load(scores + i * kLanes<T>), zero, all);
  if (lane_sum<T>(all) == T(0)) [[likely]]
    return;
  for (int r = 0; r < rows; ++r, scores += kTileCols<T>) {
    for (uint32_t bits = valid_bits; bits != 0; bits &= bits - 1) {
      if (!(scores[__builtin_ctz(bits)] * T(0) == T(0))) collectors[r].finite = false;
    }
  }
}

// Offers the items of one tile that beat the threshold, in ascending order. Column i is item
// first_item + i, or ids[i] where there are ids.
template <class T>
MCLREC_INLINE void offer_tile(const T* scores, int rows, int64_t first_item, const int32_t* ids,
                              uint32_t valid_bits, Collector<T>* collectors) {
  for (int r = 0; r < rows; ++r, scores += kTileCols<T>) {
    const Vec<T> limit = broadcast(collectors[r].threshold);
    const IntVec<T> low = load(scores) > limit, high = load(scores + kLanes<T>) > limit;
    uint32_t bits = lane_bits<T>(low) | lane_bits<T>(high) << kLanes<T>;
    for (bits &= valid_bits; bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      collectors[r].offer(scores[lane], ids ? ids[lane] : static_cast<int32_t>(first_item + lane));
    }
  }
}

// Packs the vectors of `width` candidates, which lie anywhere in the table, as a panel. Runs of
// neighbours, most of a catalogue without few items, are packed where they lie.
template <class T>
MCLREC_INLINE void pack_candidates(const T* items, const int32_t* ids, int64_t hidden,
                                   int64_t width, T* panel, T* gathered) {
  if (ids[width - 1] - ids[0] == width - 1) {
    pack_panels(items + ids[0] * hidden, 1, hidden, hidden, width, panel);
    return;
  }
  for (int64_t i = 0; i < width; ++i) {
    std::memcpy(gathered + i * hidden, items + ids[i] * hidden, sizeof(T) * hidden);
  }
  pack_panels(gathered, 1, hidden, hidden, width, panel);
}

// Offers the items (or candidates) number first .. last - 1 to the collectors of `rows` rows of h
// from first_row on.
template <class T>
void top_k_block(const TopKArguments<T>& a, int64_t first_row, int64_t rows, int64_t first,
                 int64_t last, Collector<T>* collectors, const Panels<T>& panels) {
  alignas(kVectorBytes) T scores[kTileRows * kTileCols<T>];
  const T* h = a.h + first_row * a.hidden;
  for (int64_t at = first; at < last; at += kTileCols<T>) {
    const int64_t width = last - at < kTileCols<T> ? last - at : kTileCols<T>;
    const uint32_t valid_bits = panels.allowed_bits(at, width);
    const int32_t* ids = panels.ids ? panels.ids + at : nullptr;
    if (ids) {
      pack_candidates(a.items, ids, a.hidden, width, panels.panel, panels.gathered);
    } else {
      pack_panels(a.items + (at + 1) * a.hidden, 1, a.hidden, a.hidden, width, panels.panel);
    }
    for (int64_t row = 0; row < rows;) {
      const int count = next_tile_rows(rows - row);
      multiply_tile_rows<false, TileStart::kZero, T>(count, {h + row * a.hidden, a.hidden},
                                                     {panels.panel, kTileCols<T>}, a.hidden,
                                                     {scores, kTileCols<T>});
      look_for_not_finite(scores, count, valid_bits, collectors + row);
      offer_tile(scores, count, at + 1, ids, valid_bits, collectors + row);
      row += count;
    }
  }
}
