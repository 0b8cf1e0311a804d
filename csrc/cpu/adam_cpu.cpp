// Adam for every instruction set, and the cut into pieces. An element's bits do not depend on it.
#include "adam_cpu.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace mclrec {
namespace {

// What the elements are multiplied with and divided by, each rounded once.
template <class T>
struct AdamFactors {
  explicit AdamFactors(const AdamSettings& s)
      : new_first(static_cast<T>(1 - s.beta_1)),
        old_second(static_cast<T>(s.beta_2)),
        new_second(static_cast<T>(1 - s.beta_2)),
        root_of_correction(static_cast<T>(std::sqrt(1 - std::pow(s.beta_2, s.step)))),
        eps(static_cast<T>(s.eps)),
        minus_step(static_cast<T>(-s.learning_rate / (1 - std::pow(s.beta_1, s.step)))) {}

  T new_first;
  T old_second;
  T new_second;
  T root_of_correction;
  T eps;
  T minus_step;
};

}  // namespace
}  // namespace mclrec

#define MCLREC_OP adam_cpu
#define MCLREC_KERNELS "../adam.inl"
#include "isa/each_set.inl"

namespace mclrec {

template <class T>
void adam(const AdamSettings& settings, const std::vector<AdamArray<T>>& arrays) {
  constexpr int64_t kPiece = 16384;  // elements of a task at most
  struct Piece {
    const AdamArray<T>* of;
    int64_t begin;
  };
  std::vector<Piece> pieces;
  for (const AdamArray<T>& array : arrays) {
    for (int64_t begin = 0; begin < array.size; begin += kPiece) pieces.push_back({&array, begin});
  }
  const AdamFactors<T> factors(settings);
  const auto update = MCLREC_PICK(adam_cpu, update<T>);
  // Small arrays go together: a task is as many neighbours as fill it.
  std::vector<size_t> first{0};
  int64_t filled = 0;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const int64_t size = std::min(kPiece, pieces[p].of->size - pieces[p].begin);
    if (filled + size > kPiece) {
      first.push_back(p);
      filled = 0;
    }
    filled += size;
  }
  first.push_back(pieces.size());
  parallel_tasks(static_cast<int64_t>(first.size()) - 1, [&](int64_t task, int) {
    for (size_t p = first[static_cast<size_t>(task)]; p < first[static_cast<size_t>(task) + 1];
         ++p) {
      const Piece& piece = pieces[p];
      update(factors, *piece.of, piece.begin, std::min(piece.begin + kPiece, piece.of->size));
    }
  });
}

template void adam<float>(const AdamSettings&, const std::vector<AdamArray<float>>&);
template void adam<double>(const AdamSettings&, const std::vector<AdamArray<double>>&);

}  // namespace mclrec
