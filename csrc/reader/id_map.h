// External ids -> codes 0, 1, 2, ... in order of first appearance.
// Integers as long as every id is a canonical integer (small ones looked up in an array, others in
// a hash table); the first other id turns the whole map into text, codes unchanged.
#pragma once

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer.h"
#include "number.h"

namespace mclrec::reader {

constexpr int64_t kDirectLimit = 1 << 22;  // ids below it are looked up in an array
constexpr size_t kArenaBlock = 1 << 18;

inline uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Drawn anew by each process, so that no file can be made whose ids all land in one place. Codes
// do not depend on it.
struct HashKey {
  HashKey() {
    std::random_device random;
    for (uint64_t* word : {&seed, &factor, &last}) {
      *word ^= uint64_t{random()} << 32 | random();
      *word |= 1;
    }
  }
  uint64_t seed = 0x9E3779B97F4A7C15u;
  uint64_t factor = 0xD6E8FEB86659FD93u;
  uint64_t last = 0xA0761D6478BD642Fu;
};
inline const HashKey kHashKey;

inline uint64_t hash_integer(int64_t value) {
  const uint64_t once = mix(static_cast<uint64_t>(value) ^ kHashKey.seed, kHashKey.factor);
  return mix(once ^ kHashKey.seed, kHashKey.last);
}

inline uint64_t hash_text(std::string_view text) {
  uint64_t hash = kHashKey.seed ^ text.size();
  const char* at = text.data();
  size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    hash = mix(hash ^ word, kHashKey.factor) ^ kHashKey.seed;
  }
  uint64_t word = 0;
  std::memcpy(&word, at, left);
  return mix(hash ^ word, kHashKey.last);
}

// Copies of the texts, at addresses that stay.
class Arena {
 public:
  std::string_view keep(std::string_view text) {
    if (text.size() > room_) {
      room_ = text.size() > kArenaBlock ? text.size() : kArenaBlock;
      blocks_.push_back(std::make_unique<char[]>(room_));
      at_ = blocks_.back().get();
    }
    std::memcpy(at_, text.data(), text.size());
    const std::string_view kept(at_, text.size());
    at_ += text.size();
    room_ -= text.size();
    return kept;
  }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* at_ = nullptr;
  size_t room_ = 0;
};

class IdMap {
 public:
  bool is_text() const { return text_; }
  size_t size() const { return text_ ? texts_.size() : integers_.size(); }
  const std::vector<int64_t>& integers() const { return integers_; }
  const std::vector<std::string_view>& texts() const { return texts_; }

  // The code of an id of either kind.
  int32_t add(std::string_view token) {
    if (!text_) {
      int64_t value;
      if (canonical_integer(token, &value)) return add_integer(value);
      become_text();
    }
    return add_text(token, hash_text(token));
  }

  // The map holds integers.
  int32_t add_integer(int64_t value) {
    if (value >= 0 && value < kDirectLimit) {
      if (static_cast<size_t>(value) >= direct_.size()) grow_direct(value);
      int32_t& code = direct_[static_cast<size_t>(value)];
      if (code < 0) code = append_integer(value);
      return code;
    }
    if (slots_.empty()) rehash(1024);
    size_t at = hash_integer(value) >> shift_;
    while (slots_[at].code >= 0) {
      if (static_cast<int64_t>(slots_[at].key) == value) return slots_[at].code;
      at = (at + 1) & mask_;
    }
    const int32_t code = append_integer(value);
    slots_[at] = {static_cast<uint64_t>(value), code};
    if (++used_ * 2 > slots_.size()) rehash(slots_.size() * 2);
    return code;
  }

  // The map holds text.
  int32_t add_text(std::string_view text, uint64_t hash) {
    if (slots_.empty()) rehash(1024);
    size_t at = hash >> shift_;
    while (slots_[at].code >= 0) {
      if (slots_[at].key == hash && texts_[static_cast<size_t>(slots_[at].code)] == text) {
        return slots_[at].code;
      }
      at = (at + 1) & mask_;
    }
    const int32_t code = next_code();
    texts_.push_back(arena_.keep(text));
    slots_[at] = {hash, code};
    if (++used_ * 2 > slots_.size()) rehash(slots_.size() * 2);
    return code;
  }

  void add_integers(const int64_t* values, size_t count, int32_t* codes) {
    for (size_t i = 0; i < count; ++i) {
      if (i + kAhead < count) prefetch_integer(values[i + kAhead]);
      const auto place = static_cast<uint64_t>(values[i]);
      const int32_t known = place < direct_.size() ? direct_[place] : -1;
      codes[i] = known >= 0 ? known : add_integer(values[i]);
    }
  }

  void add_texts(const std::string_view* texts, size_t count, int32_t* codes) {
    uint64_t hashes[kAhead];
    for (size_t i = 0; i < count + kAhead; ++i) {
      const size_t place = i % kAhead;
      if (i >= kAhead) codes[i - kAhead] = add_text(texts[i - kAhead], hashes[place]);
      if (i < count) {
        hashes[place] = hash_text(texts[i]);
        prefetch_slot(hashes[place]);
      }
    }
  }

  void become_text() {
    if (text_) return;
    text_ = true;
    std::vector<int64_t> integers;
    integers.swap(integers_);
    direct_ = Buffer<int32_t>();
    slots_ = Buffer<Slot>();
    used_ = 0;
    char digits[24];
    for (const int64_t value : integers) {
      const char* end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
      const std::string_view text(digits, static_cast<size_t>(end - digits));
      add_text(text, hash_text(text));
    }
  }

 private:
  static constexpr size_t kAhead = 16;

  struct Slot {
    uint64_t key;  // the integer, or the hash of the text
    int32_t code;  // -1: free
  };

  int32_t next_code() const {
    if (size() >= 0x7FFFFFFF) throw std::length_error("more than 2147483647 distinct ids");
    return static_cast<int32_t>(size());
  }

  int32_t append_integer(int64_t value) {
    const int32_t code = next_code();
    integers_.push_back(value);
    return code;
  }

  void grow_direct(int64_t value) {
    size_t size = 1024;
    while (size <= static_cast<size_t>(value)) size *= 2;
    const size_t before = direct_.size();
    direct_.resize(size);
    std::fill(direct_.data() + before, direct_.data() + size, -1);
  }

  void prefetch_slot(uint64_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash >> shift_]);
  }

  void prefetch_integer(int64_t value) const {
    if (value >= 0 && static_cast<size_t>(value) < direct_.size()) {
      __builtin_prefetch(&direct_[static_cast<size_t>(value)]);
    } else {
      prefetch_slot(hash_integer(value));
    }
  }

  // The top bits of the hash are the place, so that growing walks through memory in order.
  void rehash(size_t size) {
    Buffer<Slot> old;
    std::swap(old, slots_);
    slots_.resize(size);
    std::fill_n(slots_.data(), size, Slot{0, -1});
    mask_ = size - 1;
    shift_ = 64 - std::countr_zero(size);
    for (size_t i = 0; i < old.size(); ++i) {
      if (old[i].code < 0) continue;
      const uint64_t key = old[i].key;
      const uint64_t hash = text_ ? key : hash_integer(static_cast<int64_t>(key));
      size_t at = hash >> shift_;
      while (slots_[at].code >= 0) at = (at + 1) & mask_;
      slots_[at] = old[i];
    }
  }

  bool text_ = false;
  std::vector<int64_t> integers_;        // by code
  std::vector<std::string_view> texts_;  // by code, in the arena
  Buffer<int32_t> direct_;               // integer -> code or -1
  Buffer<Slot> slots_;                   // open addressing, at most half full
  size_t mask_ = 0;
  int shift_ = 0;
  size_t used_ = 0;
  Arena arena_;
};

}  // namespace mclrec::reader
