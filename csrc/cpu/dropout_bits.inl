// Dropout masks as bits, many Philox blocks at a time: the draws of csrc/shared/philox.h,
// as its dropout_threshold() says. Blocks of different sequences share a vector, because a short
// sequence needs only a few. One block costs 20 multiplications and about 100 other operations;
// eight run at once on AVX2. No #include and no namespace here: dropout_bits.h and simd.h come
// first, outside the namespace, then simd.inl inside it.

constexpr int kDrawQueue = 64;  // a multiple of 8

#if MCLREC_X86
// Four blocks in 64-bit lanes; the upper halves of c1 and c3 hold leftovers that nothing reads.
struct PhiloxLanes {
  __m256i c0, c1, c2, c3;
};

MCLREC_INLINE void philox_round(PhiloxLanes& c, __m256i k0, __m256i k1) {
  const __m256i product0 = _mm256_mul_epu32(c.c0, _mm256_set1_epi64x(0xD2511F53));
  const __m256i product1 = _mm256_mul_epu32(c.c2, _mm256_set1_epi64x(0xCD9E8D57));
  c.c0 = _mm256_xor_si256(_mm256_srli_epi64(product1, 32), _mm256_xor_si256(c.c1, k0));
  c.c2 = _mm256_xor_si256(_mm256_srli_epi64(product0, 32), _mm256_xor_si256(c.c3, k1));
  c.c1 = product1;
  c.c3 = product0;
}

MCLREC_INLINE void store_blocks(uint32_t* words, const PhiloxLanes& c) {  // words [4 blocks][4]
  const __m256i low = _mm256_blend_epi32(c.c0, _mm256_slli_epi64(c.c1, 32), 0xAA);
  const __m256i high = _mm256_blend_epi32(c.c2, _mm256_slli_epi64(c.c3, 32), 0xAA);
  const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
  __m128i* to = reinterpret_cast<__m128i*>(words);
  _mm_storeu_si128(to, _mm256_castsi256_si128(even));
  _mm_storeu_si128(to + 1, _mm256_castsi256_si128(odd));
  _mm_storeu_si128(to + 2, _mm256_extracti128_si256(even, 1));
  _mm_storeu_si128(to + 3, _mm256_extracti128_si256(odd, 1));
}

MCLREC_INLINE PhiloxLanes philox_counter(const uint32_t* draws, const uint32_t* rows,
                                         uint32_t stream, uint32_t update) {
  const auto widen = [](const uint32_t* from) {
    return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  };
  return {widen(draws), widen(rows), _mm256_set1_epi64x(stream), _mm256_set1_epi64x(update)};
}
#endif

// Philox blocks of `count` (draw, row) pairs, a multiple of 8: words [count][4].
inline void philox_blocks(uint64_t seed, uint32_t stream, uint32_t update, const uint32_t* draws,
                          const uint32_t* rows, int count, uint32_t* words) {
#if MCLREC_X86
  if constexpr (kVectorBytes >= 32) {
    for (int i = 0; i < count; i += 8) {
      PhiloxLanes a = philox_counter(draws + i, rows + i, stream, update);
      PhiloxLanes b = philox_counter(draws + i + 4, rows + i + 4, stream, update);
      uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
      for (int round = 0; round < 10; ++round) {
        const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
        philox_round(a, key0, key1);
        philox_round(b, key0, key1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
      }
      store_blocks(words + 4 * i, a);
      store_blocks(words + 4 * i + 16, b);
    }
    return;
  }
#endif
  for (int i = 0; i < count; ++i) {
    const PhiloxBlock block = philox(seed, draws[i], rows[i], stream, update);
    std::memcpy(words + 4 * i, block.word, sizeof(block.word));
  }
}

// One byte: which of a block's eight 16-bit halves are below the threshold (<= 65536).
MCLREC_INLINE uint8_t halves_below(const uint32_t* words, uint32_t threshold) {
#if MCLREC_X86
  if constexpr (kVectorBytes >= 32) {
    if (threshold == 0) return 0;
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(words));
    const __m128i largest = _mm_set1_epi16(static_cast<int16_t>(threshold - 1));
    const __m128i below = _mm_cmpeq_epi16(_mm_min_epu16(halves, largest), halves);
    return static_cast<uint8_t>(_mm_movemask_epi8(_mm_packs_epi16(below, below)));
  }
#endif
  uint32_t byte = 0;
  for (int i = 0; i < 8; ++i) {
    const uint32_t half = (words[i / 2] >> (16 * (i % 2))) & 0xFFFFu;
    byte |= static_cast<uint32_t>(half < threshold) << i;
  }
  return static_cast<uint8_t>(byte);
}

// Collects draws until there are enough for the vectors, then writes their bits where they belong.
class KeepBits {
 public:
  KeepBits(const Dropout& dropout, uint32_t stream)
      : dropout_(dropout), stream_(stream), threshold_(dropout_threshold(dropout.p)) {}

  // The bits of draw `draw` of sequence `row` go to `to`: dropout.bytes_per_draw() bytes. Bytes
  // are written in the order of the calls, after flush() at the latest.
  MCLREC_INLINE void push(uint32_t draw, uint32_t row, uint8_t* to) {
    draws_[count_] = draw;
    rows_[count_] = row;
    to_[count_] = to;
    if (++count_ == kDrawQueue) flush();
  }

  __attribute__((noinline)) void flush() {
    if (count_ == 0) return;
    uint32_t words[4 * kDrawQueue];
    int padded = count_;
    for (; padded % 8 != 0; ++padded) draws_[padded] = rows_[padded] = 0;
    philox_blocks(dropout_.seed, stream_, dropout_.update, draws_, rows_, padded, words);
    const bool half = dropout_.p == 0.5;
    for (int i = 0; i < count_; ++i) {
      if (half) {
        std::memcpy(to_[i], words + 4 * i, 16);
      } else {
        *to_[i] = halves_below(words + 4 * i, threshold_);
      }
    }
    count_ = 0;
  }

 private:
  Dropout dropout_;
  uint32_t stream_;
  uint32_t threshold_;
  int count_ = 0;
  uint32_t draws_[kDrawQueue];
  uint32_t rows_[kDrawQueue];
  uint8_t* to_[kDrawQueue];
};

// `count` bits starting at bit `first` of `from`, moved to the start of `to`; zeros up to `bytes`.
// Reads at most one byte beyond the last bit's.
MCLREC_INLINE void copy_bits(const uint8_t* from, int64_t first, int64_t count, uint8_t* to,
                             int64_t bytes) {
  from += first / 8;
  const int shift = static_cast<int>(first % 8);
  const int64_t used = (count + 7) / 8;
  if (shift == 0 && count == 64) {
    std::memcpy(to, from, 8);
  } else {
    for (int64_t i = 0; i < used; ++i) {
      to[i] = static_cast<uint8_t>((from[i] | from[i + 1] << 8) >> shift);
    }
    if (count % 8 != 0) to[used - 1] &= static_cast<uint8_t>((1 << count % 8) - 1);
  }
  if (used < bytes) std::memset(to + used, 0, static_cast<size_t>(bytes - used));
}

// All ones in the lanes whose bit is set, from lane group `group` of a bit string (kLanes<T> bits).
template <class T>
MCLREC_INLINE IntVec<T> keep_lanes(const uint8_t* bits, int64_t group) {
  using Integer = decltype(IntVec<T>{}[0] + 0);
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    LaneMask<T> lanes;
    std::memcpy(&lanes, bits + group * static_cast<int64_t>(sizeof(lanes)), sizeof(lanes));
    if constexpr (sizeof(T) == 4) {
      return (IntVec<T>)_mm512_movm_epi32(lanes);
    } else {
      return (IntVec<T>)_mm512_movm_epi64(lanes);
    }
  }
#endif
  if constexpr (kLanes<T> == 8) {
    const Integer byte = bits[group];
    const IntVec<T> lane = {1, 2, 4, 8, 16, 32, 64, 128};
    return ((IntVec<T>{byte, byte, byte, byte, byte, byte, byte, byte}) & lane) == lane;
  } else if constexpr (kLanes<T> == 4) {
    const Integer nibble = bits[group / 2] >> (group % 2 * 4);
    const IntVec<T> lane = {1, 2, 4, 8};
    return ((IntVec<T>{nibble, nibble, nibble, nibble}) & lane) == lane;
  } else {
    const Integer pair = bits[group / 4] >> (group % 4 * 2);
    const IntVec<T> lane = {1, 2};
    return ((IntVec<T>{pair, pair}) & lane) == lane;
  }
}

// The value in the lanes that are kept, 0 in the others (also where the value is not finite).
template <class T>
MCLREC_INLINE Vec<T> keep_where(IntVec<T> lanes, Vec<T> value) {
  return (Vec<T>)((IntVec<T>)value & lanes);
}

// value * scale in the lanes whose bit is set (see keep_lanes), 0 in the others.
template <class T>
MCLREC_INLINE Vec<T> keep_scaled(const uint8_t* bits, int64_t group, Vec<T> value, T scale) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) {
    LaneMask<T> lanes;
    std::memcpy(&lanes, bits + group * static_cast<int64_t>(sizeof(lanes)), sizeof(lanes));
    return (Vec<T>)_mm512_maskz_mul_ps(lanes, value, broadcast(scale));
  }
#endif
  return keep_where<T>(keep_lanes<T>(bits, group), value * scale);
}
