// What matrix products make of their float32 factors; torch-free and CUDA-free.
#pragma once

namespace mclrec::cuda {

// Nothing (FMA), or rounded for tensor cores: to 11 significant bits (TF32) or 8 (bf16). Sums are
// float32 in all of them; float64 products are never rounded.
enum class Precision { kFloat32, kTf32, kBf16 };

}  // namespace mclrec::cuda
