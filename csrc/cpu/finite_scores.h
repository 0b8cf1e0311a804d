// Whether all scores of a row are finite, decided by a bound, or one by one where the bound is too
// coarse. Used by the ranking ops, which refuse to rank scores that are not.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace mclrec {

// The functions of fixed_order.inl for the chosen instruction set.
template <class T>
struct FixedOrder {
  void (*pair_scores)(const T* row, const T* const* items, int64_t n, int64_t hidden, T* out);
  T (*magnitude_sum)(const T* x, int64_t n);
  T (*largest_magnitude)(const T* x, int64_t n);
};

template <class T>
class FiniteScores {
 public:
  // items [classes, hidden]; row 0 does not count.
  FiniteScores(const FixedOrder<T>& functions, const T* items, int64_t classes, int64_t hidden)
      : functions_(functions),
        items_(items),
        classes_(classes),
        hidden_(hidden),
        largest_(functions.largest_magnitude(items + hidden, (classes - 1) * hidden)) {}

  bool row(const T* h) const {
    const T bound = functions_.magnitude_sum(h, hidden_) * largest_;
    if (bound < std::numeric_limits<T>::max() / 2) return true;
    // No finite score can come of an item that is not finite.
    if (!(largest_ < std::numeric_limits<T>::infinity())) return false;
    for (int64_t item = 1; item < classes_; ++item) {
      const T* vector = items_ + item * hidden_;
      T score;
      functions_.pair_scores(h, &vector, 1, hidden_, &score);
      if (!(std::abs(score) < std::numeric_limits<T>::infinity())) return false;
    }
    return true;
  }

 private:
  FixedOrder<T> functions_;
  const T* items_;
  int64_t classes_;
  int64_t hidden_;
  T largest_;  // |x| over all coordinates of the items, infinity when one is not finite
};

}  // namespace mclrec
