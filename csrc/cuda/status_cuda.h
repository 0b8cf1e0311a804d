// What the glue asks of the CUDA runtime, so that it needs none of its headers.
#pragma once

namespace mclrec::cuda {

// The text of the last launch's error, which it clears; null if there was none.
const char* take_launch_error();

// Version of the runtime the kernels were built with, as 1000 major + 10 minor.
int runtime_version();

}  // namespace mclrec::cuda
