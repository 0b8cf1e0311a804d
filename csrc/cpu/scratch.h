// Temporary memory of a kernel call: a stack of arrays that all die with the Scratch object. The
// memory itself stays with the calling thread for its next call (fresh pages cost as much as the
// arithmetic of a small kernel), unless it is very large. Not for results, nor for sharing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mclrec {

// Under AddressSanitizer every array is an allocation of its own, so that a step from one into the
// next is noticed, and dies at once.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class Scratch {
 public:
  Scratch() {
    if (!kept().busy) {
      mine_ = true;
      kept().busy = true;
      chunks_.swap(kept().chunks);
    }
  }

  ~Scratch() {
    size_t total = 0;
    for (const Chunk& chunk : chunks_) total += chunk.size;
    if (kSanitized || chunks_.size() > 1 || total > kKeepBytes || !mine_) {
      for (const Chunk& chunk : chunks_) std::free(chunk.memory);
      chunks_.clear();
    }
    if (!mine_) return;
    kept().busy = false;
    kept().chunks.swap(chunks_);
    // Next time one chunk holds what took several now.
    kept().wanted = total > kKeepBytes ? 0 : std::max(kept().wanted, total);
  }

  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised, aligned to 64 bytes.
  template <class T>
  T* take(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (kSanitized || chunks_.empty() || chunks_.back().size - used_ < bytes) {
      add_chunk(std::max(bytes, chunks_.empty() && !kSanitized ? kept().wanted : size_t{0}));
    }
    void* memory = static_cast<char*>(chunks_.back().memory) + used_;
    used_ += bytes;
    return static_cast<T*>(memory);
  }

 private:
  struct Chunk {
    void* memory;
    size_t size;
  };
  struct Kept {
    std::vector<Chunk> chunks;
    size_t wanted = 0;
    bool busy = false;
    ~Kept() {
      for (const Chunk& chunk : chunks) std::free(chunk.memory);
    }
  };
  static constexpr size_t kKeepBytes = size_t{256} << 20;
  static constexpr size_t kHugePage = size_t{2} << 20;

  static Kept& kept() {
    static thread_local Kept instance;
    return instance;
  }

  void add_chunk(size_t bytes) {
    const size_t alignment = bytes >= kHugePage && !kSanitized ? kHugePage : 64;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    chunks_.push_back({memory, bytes});
    used_ = 0;
  }

  std::vector<Chunk> chunks_;
  size_t used_ = 0;
  bool mine_ = false;
};

}  // namespace mclrec
