// Tensors for what an operator's forward leaves to its backward: their memory comes from a pool of
// its own and goes back to it, so that a training step does not fault the same pages in again and
// again (the C library returns large blocks to the system). Not for tensors that users keep.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "../cpu/scratch.h"
#include "../ops/device.h"

namespace mclrec {

// Free blocks of memory, shared by all threads: with the blocks in use at most as much as was ever
// in use at once, or kKeepBytes if that is more. Never destroyed: tensors may outlive everything
// else.
class BlockPool {
 public:
  static BlockPool& instance() {
    static BlockPool* pool = new BlockPool;
    return *pool;
  }

  // At least `bytes`, aligned to 64.
  void* take(size_t bytes) {
    // In steps of an eighth or less, so that a batch a little larger than the last finds its block.
    const size_t step = std::max(std::bit_floor(bytes) / 8, size_t{64});
    bytes = (bytes + step - 1) / step * step;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      // Latest first: its pages are the most likely to be in cache.
      for (size_t i = free_.size(); i-- > 0;) {
        if (free_[i].size < bytes || free_[i].size > 2 * bytes) continue;
        const Block block = free_[i];
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
        kept_ -= block.size;
        count_used(block.size);
        return block.memory;
      }
    }
    void* memory = std::aligned_alloc(64, bytes + kHeader);
    if (memory == nullptr) throw std::bad_alloc();
    *static_cast<size_t*>(memory) = bytes;
    const std::lock_guard<std::mutex> lock(mutex_);
    count_used(bytes);
    return static_cast<char*>(memory) + kHeader;
  }

  void give(void* memory) {
    void* start = static_cast<char*>(memory) - kHeader;
    if (kSanitized) return std::free(start);
    const size_t size = *static_cast<size_t*>(start);
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back({memory, size});
    kept_ += size;
    used_ -= size;
    while (used_ + kept_ > std::max(most_used_, kKeepBytes)) {  // the oldest go
      kept_ -= free_.front().size;
      std::free(static_cast<char*>(free_.front().memory) - kHeader);
      free_.erase(free_.begin());
    }
  }

 private:
  void count_used(size_t bytes) {
    used_ += bytes;
    most_used_ = std::max(most_used_, used_);
  }

  struct Block {
    void* memory;
    size_t size;
  };
  static constexpr size_t kHeader = 64;  // in front of a block: its size
  static constexpr size_t kKeepBytes = size_t{64} << 20;

  std::mutex mutex_;
  std::vector<Block> free_;
  size_t kept_ = 0;
  size_t used_ = 0;
  size_t most_used_ = 0;
};

// An uninitialised CPU tensor [sizes], dense, from the pool. T is float or double.
template <class T>
Tensor pooled_empty(const std::vector<int64_t>& sizes, const Tensor& like) {
  int64_t count = 1;
  std::vector<int64_t> strides(sizes.size());
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = count;
    count *= sizes[d];
  }
  if (count == 0) return torch::stable::new_empty(like, sizes);
  void* memory = BlockPool::instance().take(static_cast<size_t>(count) * sizeof(T));
  constexpr ScalarType kType = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;
  return torch::stable::from_blob(memory, sizes, strides, like.device(), kType,
                                  [](void* block) { BlockPool::instance().give(block); });
}

}  // namespace mclrec
