// The machine's clock: how many float32 multiply-adds a second its registers alone can do.
// Benchmarks print it beside every timing, so that figures from different machines (or from a busy
// one) can be compared. It measures no memory and no kernel of this project.
#pragma once

namespace mclrec {

// GFLOP/s (two per multiply-add) over `threads` threads of its own, each busy for `seconds`.
double fma_peak_gflops(int threads, double seconds);

}  // namespace mclrec
