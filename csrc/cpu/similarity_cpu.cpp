// The similarity engine: forward, one pass over the tiles of the distinct blocks; backward, one
// more.
//
// A tile is at most 128 x 128 similarities. Forward it takes the product (2 D FLOP a similarity),
// the maxima of its rows and columns, then one exponential a similarity that serves the softmax of
// its row and of its column (similarity_tile.inl says when that is allowed). Backward it takes W
// from the exponentials, which are kept up to B = 1024, or from the product and an exponential
// again, and two products (4 D FLOP) into the gradients of its rows and of its columns.
//
// Cost for the 2B rows of info_nce, three blocks, self blocks by half: 4 B^2 D FLOP forward;
// backward 8 B^2 D, and 4 B^2 D more to recompute: 16 B^2 D in all, with 4 B^2 exponentials.
// contrast, four views: 10 (12 with L_cl1) B^2 D forward and twice that backward, with 5 (6) B^2
// exponentials. Memory beyond inputs and gradients: row statistics for each of the at most 16
// groups of rows, copies of the views (transposed; of unit length), one tile a thread, all O(B D);
// and B^2 exponentials a cross block, half that a self block, only while B <= 1024.
//
// Work is split into pairs of groups of rows, whatever the number of threads. Forward each has
// statistics of its own; backward they go in rounds in which no group occurs twice. So every sum
// has a fixed order, and the results have the same bits for any number of threads.
#include "similarity_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "isa.h"
#include "parallel.h"
#include "scratch.h"
#include "simd.h"
#include "similarity_plan.h"

#define MCLREC_OP similarity
#define MCLREC_KERNELS "../similarity.inl"
#include "isa/each_set.inl"

namespace mclrec {

template <>
SimilarityStateSize similarity_state_size(const SimilarityProblem<float>& problem) {
  return similarity::make_plan(problem, isa_facts(selected_isa()).padding).state_size();
}

template <>
SimilarityStateSize similarity_state_size(const SimilarityProblem<double>& problem) {
  return similarity::make_plan(problem, isa::portable::kPadding).state_size();
}

template <>
SimilarityLosses similarity_forward(const SimilarityProblem<float>& problem, float* values,
                                    int32_t* indices) {
  return MCLREC_PICK(similarity, forward<float>)(problem, values, indices);
}

template <>
SimilarityLosses similarity_forward(const SimilarityProblem<double>& problem, double* values,
                                    int32_t* indices) {
  return similarity::portable::forward(problem, values, indices);
}

template <>
void similarity_backward(const SimilarityProblem<float>& problem, const float* values,
                         const int32_t* indices, const SimilarityGradients<float>& gradients) {
  MCLREC_PICK(similarity, backward<float>)(problem, values, indices, gradients);
}

template <>
void similarity_backward(const SimilarityProblem<double>& problem, const double* values,
                         const int32_t* indices, const SimilarityGradients<double>& gradients) {
  similarity::portable::backward(problem, values, indices, gradients);
}

}  // namespace mclrec
