// A growing array of plain values whose memory can be handed over (to numpy) without a copy.
// realloc moves pages instead of bytes for large arrays, and untouched capacity costs no memory.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

namespace mclrec::reader {

template <typename T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

  void reserve(size_t capacity) {
    if (capacity <= capacity_) return;
    void* grown = std::realloc(static_cast<void*>(data_), capacity * sizeof(T));
    if (grown == nullptr) throw std::bad_alloc();
    data_ = static_cast<T*>(grown);
    capacity_ = capacity;
    ask_for_huge_pages();
  }

  // New elements are not initialised.
  void resize(size_t size) {
    if (size > capacity_) reserve(size);
    size_ = size;
  }

  // Room for `extra` more elements, whose start is returned.
  T* extend(size_t extra) {
    const size_t before = size_;
    if (before + extra > capacity_) reserve(before + extra + (before + extra) / 2);
    size_ = before + extra;
    return data_ + before;
  }

  void push(T value) { *extend(1) = value; }

  // Gives the memory away (to be freed with std::free).
  T* release() {
    size_ = capacity_ = 0;
    return std::exchange(data_, nullptr);
  }

 private:
  // A hint: large arrays fault in and translate faster in huge pages.
  void ask_for_huge_pages() {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t kPage = 1 << 21;
    const auto begin = (reinterpret_cast<uintptr_t>(data_) + kPage - 1) & ~(kPage - 1);
    const auto end = reinterpret_cast<uintptr_t>(data_ + capacity_) & ~(kPage - 1);
    if (end > begin && end - begin >= 2 * kPage) {
      madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    }
#endif
  }

  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace mclrec::reader
