// Counts what a log repeats: items a user had before, rows that tie in time, rows that are the
// same. One pass over the grouped rows; a user's items are kept in a table that fits the cache.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "parallel.h"

namespace mclrec::reader {

struct Census {
  int64_t tied = 0;        // rows of a user at a time at which the user has another row
  int64_t duplicates = 0;  // rows whose user, time and item are an earlier row's
};

// The items of one user, to be asked whether they came before.
class SeenItems {
 public:
  void start(int64_t most) {
    const size_t wanted = std::bit_ceil(static_cast<size_t>(most) * 2 + 1);
    if (++user_ == 0 || wanted > slots_.size()) {
      slots_.assign(std::max(wanted, slots_.size()), 0);
      user_ = 1;
    }
    shift_ = 64 - std::countr_zero(wanted);
    mask_ = wanted - 1;
  }

  // Whether the item was added before; it is added now.
  bool add(int32_t item) {
    const uint64_t key = uint64_t{user_} << 32 | static_cast<uint32_t>(item);
    size_t at = shift_ == 64 ? 0 : static_cast<uint32_t>(item) * 0x9E3779B97F4A7C15u >> shift_;
    while (slots_[at] >> 32 == user_) {
      if (slots_[at] == key) return true;
      at = (at + 1) & mask_;
    }
    slots_[at] = key;
    return false;
  }

 private:
  std::vector<uint64_t> slots_;  // user << 32 | item; another user's slot is free
  uint32_t user_ = 0;
  int shift_ = 64;
  size_t mask_ = 0;
};

template <typename Time>
class Counter {
 public:
  Counter(const int32_t* items, const Time* times, uint8_t* repeats)
      : items_(items), times_(times), repeats_(repeats) {}

  void user(int64_t begin, int64_t end) {
    seen_.start(end - begin);
    for (int64_t i = begin; i < end; ++i) repeats_[i] = seen_.add(items_[i]) ? 1 : 0;
    if (times_ == nullptr) return;
    for (int64_t from = begin; from < end;) {
      int64_t to = from + 1;
      while (to < end && times_[to] == times_[from]) ++to;
      if (to - from > 1) tie(from, to);
      from = to;
    }
  }

  const Census& found() const { return found_; }

 private:
  void tie(int64_t from, int64_t to) {
    found_.tied += to - from;
    tied_.assign(items_ + from, items_ + to);
    std::sort(tied_.begin(), tied_.end());
    const auto distinct = std::unique(tied_.begin(), tied_.end()) - tied_.begin();
    found_.duplicates += to - from - distinct;
  }

  const int32_t* items_;
  const Time* times_;
  uint8_t* repeats_;
  SeenItems seen_;
  std::vector<int32_t> tied_;
  Census found_;
};

// items [rows] and times [rows] or null, grouped by user and sorted by time; offsets [n_users + 1];
// repeats [rows]: 1 where the user had the item before.
template <typename Time>
Census take_census(const int32_t* items, const int64_t* offsets, const Time* times, int64_t n_users,
                   int threads, uint8_t* repeats) {
  constexpr int64_t kUsers = 1 << 10;  // taken at a time
  std::atomic<int64_t> next{0};
  std::vector<Census> found(static_cast<size_t>(threads));
  parallel(threads, [&](int t) {
    Counter<Time> counter(items, times, repeats);
    while (true) {
      const int64_t first = next.fetch_add(kUsers);
      if (first >= n_users) break;
      const int64_t last = std::min(first + kUsers, n_users);
      for (int64_t user = first; user < last; ++user)
        counter.user(offsets[user], offsets[user + 1]);
    }
    found[static_cast<size_t>(t)] = counter.found();
  });
  Census total;
  for (const Census& part : found) {
    total.tied += part.tied;
    total.duplicates += part.duplicates;
  }
  return total;
}

}  // namespace mclrec::reader
