// Division and padding of sizes, rounded up; for the kernels and their glue alike.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace mclrec {

MCLREC_HD int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }
MCLREC_HD int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

}  // namespace mclrec
