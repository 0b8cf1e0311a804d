// Histories and their two augmented views as packed sequences, on the CPU. Raw pointers, checked by
// the caller; outputs are equal to the bit for any number of threads.
#pragma once

#include "../shared/augment_views.h"

namespace mclrec {

// rows = S: the histories.
void gather_sequences_cpu(const Histories& histories, const PackedOutput& output);

// rows = 3 S: the histories, then the first views, then the second views.
void augment_views_cpu(const Histories& histories, const AugmentParams& params,
                       const PackedOutput& output);

}  // namespace mclrec
