// The switch of the products' precision: one for the whole process.
#pragma once

#include "../cuda/precision.h"

namespace mclrec {

cuda::Precision precision();
void set_precision(cuda::Precision value);

}  // namespace mclrec
