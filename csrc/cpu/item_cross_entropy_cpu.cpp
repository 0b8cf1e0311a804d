// Softmax cross-entropy over the whole catalogue, exact (Qin et al. 2023, Eq. 5): loss and both
// gradients in one call, with the gradient of the mean loss; the caller scales it.
//
// Logits come in tiles of 72 items x 16 rows (32 with AVX-512) that never leave L1 between the
// product, the online row maximum, the exponential, the sums and the product into d loss / d h
// (kept relative to the running maximum as FlashAttention does, Dao et al. 2022). The exponentials
// are kept, each tile with the row maxima it was shifted by, for d loss / d items, which needs the
// finished sums: a second pass over the tiles, where h carries the row factors.
//
// Cost: 3 products, 6 B V D FLOP, and B V exponentials. Memory traffic per chunk of 256 rows: the
// item table twice, its gradient once, and B V exponentials written and read once, which at D = 64
// is one byte per 48 FLOP. Recomputing them instead would cost a fourth product (+ 33 %). Scratch:
// at most max(64 MB, twice the item table) of exponentials, whatever B: beyond that, rows go in
// chunks of fewer than 256. Other scratch is O(256 D) per block of tiles and thread.
//
// Products of rounded factors (precision.h) make it four, and keep nothing: see
// item_cross_entropy_rounded.inl.
//
// Work is split by items into at most 32 blocks of tiles that do not depend on the number of
// threads; a block's item gradients belong to the thread that runs it, and its part of d loss / d h
// is added to the others' in order: the same bits for any number of threads.
#include "item_cross_entropy_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "isa.h"
#include "parallel.h"
#include "precision.h"
#include "prefetch.h"
#include "scratch.h"
#include "simd.h"

#define MCLREC_OP item_cross_entropy_cpu
#define MCLREC_KERNELS "../item_cross_entropy_kernels.inl"
#include "isa/each_set.inl"

#define MCLREC_OP item_cross_entropy_cpu
#define MCLREC_KERNELS "../item_cross_entropy_kernels.inl"
#include "isa/each_rounding.inl"

namespace mclrec {

template <>
void item_cross_entropy(const ItemCrossEntropyParams<float>& params) {
  if (auto* run = MCLREC_PICK_ROUNDED(item_cross_entropy_cpu, run<float>)) return run(params);
  MCLREC_PICK(item_cross_entropy_cpu, run<float>)(params);
}

template <>
void item_cross_entropy(const ItemCrossEntropyParams<double>& params) {
  item_cross_entropy_cpu::portable::run<double>(params);
}

}  // namespace mclrec
