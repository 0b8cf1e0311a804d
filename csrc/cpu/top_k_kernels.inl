// The inner loops of top_k for one instruction set: a block of rows against a range of items. Each
// tile is compared with each row's threshold; the few scores above it go to the row's collector.
// Included by top_k_cpu.cpp, which defines Collector.
// clang-format off
#include "simd.inl"
#include "fixed_order.inl"
#include "gemm_tile.inl"
// clang-format on

// Offers the items of one tile that beat the threshold, in ascending order.
template <class T>
MCLREC_INLINE void offer_tile(const T* scores, int rows, int64_t first_item, uint32_t valid_bits,
                              Collector<T>* collectors) {
  for (int r = 0; r < rows; ++r, scores += kTileCols<T>) {
    const Vec<T> limit = broadcast(collectors[r].threshold);
    const IntVec<T> low = load(scores) > limit, high = load(scores + kLanes<T>) > limit;
    uint32_t bits = lane_bits<T>(low) | lane_bits<T>(high) << kLanes<T>;
    for (bits &= valid_bits; bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      collectors[r].offer(scores[lane], static_cast<int32_t>(first_item + lane));
    }
  }
}

// Offers the items of [first, last) to the collectors of `rows` rows of h. `panel` has room for
// two vectors for each of `depth`.
template <class T>
void top_k_block(const T* h, int64_t rows, const T* items, int64_t first, int64_t last,
                 int64_t depth, Collector<T>* collectors, T* panel) {
  alignas(kVectorBytes) T scores[kTileRows * kTileCols<T>];
  for (int64_t item = first; item < last; item += kTileCols<T>) {
    const int64_t width = last - item < kTileCols<T> ? last - item : kTileCols<T>;
    const uint32_t valid_bits = ~uint32_t{0} >> (32 - width);
    pack_panels(items + item * depth, 1, depth, depth, width, panel);
    for (int64_t row = 0; row < rows;) {
      const int count = next_tile_rows(rows - row);
      multiply_tile_rows<false, TileStart::kZero, T>(
          count, {h + row * depth, depth}, {panel, kTileCols<T>}, depth, {scores, kTileCols<T>});
      offer_tile(scores, count, item, valid_bits, collectors + row);
      row += count;
    }
  }
}
