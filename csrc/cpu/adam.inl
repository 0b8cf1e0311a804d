// Adam's update of a piece of an array. Rounded as torch's fused kernel rounds whole vectors with
// AVX2 or wider; that one's last elements of an array, fewer than a vector, are rounded otherwise.
// No #include and no namespace here: see adam_cpu.cpp.
#include "simd.inl"

template <class T>
void update(const AdamFactors<T>& f, const AdamArray<T>& at, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes<T>, end - i));
    const bool whole = lanes == kLanes<T>;
    const auto get = [&](const T* from) __attribute__((always_inline)) {
      return whole ? load(from + i) : load_first(from + i, lanes);
    };
    const auto put = [&](T* to, Vec<T> value) __attribute__((always_inline)) {
      if (whole) return store(to + i, value);
      store_first(to + i, value, lanes);
    };
    const Vec<T> gradient = get(at.gradient);
    Vec<T> first = get(at.first), second = get(at.second);
    first = fma(broadcast(f.new_first), gradient - first, first);
    second = fma(f.new_second * gradient, gradient, f.old_second * second);
    const Vec<T> root = square_root(second) / f.root_of_correction + f.eps;
    put(at.first, first);
    put(at.second, second);
    put(at.weight, get(at.weight) + f.minus_step * first / root);
  }
}
