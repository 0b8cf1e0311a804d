// Which threads the kernels called from this thread take: torch's, or helpers of their own.
#pragma once

#include "../cpu/parallel.h"

namespace mclrec {

// For calls from this thread from now on; what it was before. Torch's at first.
bool use_helpers(bool wanted);

}  // namespace mclrec
