// Whatever the compiler makes of vectors of 16 bytes: SSE2 and NEON both have such vectors.
#pragma once

#include <cstdint>

#define MCLREC_BEGIN_portable
#define MCLREC_END_portable

namespace mclrec::isa::portable {

constexpr int kVectorBytes = 16;
constexpr int kTileRows = 6;
constexpr int64_t kPadding = 16;

inline bool supported() { return true; }
inline bool by_default() { return true; }

}  // namespace mclrec::isa::portable
