// Rows -> users x items, each user's rows sorted by time, ties in file order. Linear in rows.
// Rows are first dealt out to ranges of users (sequential writes), then finished range by range
// (random writes, but in cache), back into the arrays they came from: fresh memory costs more than
// the sorting.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "parallel.h"
#include "time_sort.h"

namespace mclrec::reader {

constexpr int64_t kRangeRows = 1 << 14;  // rows of a range, on average; some 200 KB
constexpr int64_t kMaxRanges = 1 << 11;  // streams written at a time

template <typename Time>
struct Record {
  Time time;
  int32_t user, item;
};

template <typename Time>
class Rows {
 public:
  // users [rows] in 0..n_users-1, items [rows], times [rows] or null.
  Rows(const int32_t* users, const int32_t* items, const Time* times, int64_t rows, int64_t n_users,
       int threads)
      : n_users_(n_users), timed_(times != nullptr) {
    const int64_t wanted = std::clamp<int64_t>(rows / kRangeRows, 1, kMaxRanges);
    while ((n_users >> shift_) >= wanted) ++shift_;
    const auto ranges = static_cast<size_t>((n_users >> shift_) + 1);
    const auto first_row = [&](int t) { return rows * t / threads; };
    std::vector<std::vector<int64_t>> cursors(static_cast<size_t>(threads));
    parallel(threads, [&](int t) {
      auto& counts = cursors[static_cast<size_t>(t)];
      counts.assign(ranges, 0);
      for (int64_t i = first_row(t); i < first_row(t + 1); ++i) {
        ++counts[static_cast<size_t>(users[i] >> shift_)];
      }
    });
    starts_.assign(ranges + 1, 0);
    int64_t total = 0;
    for (size_t range = 0; range < ranges; ++range) {
      starts_[range] = total;
      for (auto& counts : cursors) {
        const int64_t count = counts[range];
        counts[range] = total;
        total += count;
      }
    }
    starts_[ranges] = total;
    records_.resize(static_cast<size_t>(rows));
    parallel(threads, [&](int t) {
      int64_t* cursor = cursors[static_cast<size_t>(t)].data();
      Record<Time>* records = records_.data();
      for (int64_t i = first_row(t); i < first_row(t + 1); ++i) {
        records[cursor[users[i] >> shift_]++] = {times == nullptr ? Time() : times[i], users[i],
                                                 items[i]};
      }
    });
  }

  int64_t size() const { return static_cast<int64_t>(records_.size()); }

  // items [rows] (plus one), times [rows] (untouched without times), offsets [n_users + 1].
  void group(int threads, int32_t* items, Time* times, int64_t* offsets) const {
    const auto ranges = static_cast<int64_t>(starts_.size()) - 1;
    offsets[n_users_] = size();
    std::atomic<int64_t> next{0};
    parallel(threads, [&](int) {
      TimeSorter<Time> sorter(items, times);
      std::vector<int64_t> cursor;
      while (true) {
        const int64_t range = next.fetch_add(1);
        if (range >= ranges) return;
        group_range(range, &cursor, &sorter, items, times, offsets);
      }
    });
  }

 private:
  void group_range(int64_t range, std::vector<int64_t>* cursor, TimeSorter<Time>* sorter,
                   int32_t* items, Time* times, int64_t* offsets) const {
    const int64_t begin = starts_[static_cast<size_t>(range)];
    const int64_t end = starts_[static_cast<size_t>(range) + 1];
    const int64_t first = range << shift_;
    const int64_t last = std::min(first + (int64_t{1} << shift_), n_users_);
    if (first >= last) return;
    const Record<Time>* records = records_.data();
    cursor->assign(static_cast<size_t>(last - first), 0);
    int64_t* at = cursor->data();
    for (int64_t i = begin; i < end; ++i) ++at[records[i].user - first];
    int64_t total = begin;
    for (int64_t user = first; user < last; ++user) {
      offsets[user] = total;
      total += at[user - first];
      at[user - first] = offsets[user];
    }
    for (int64_t i = begin; i < end; ++i) {
      const int64_t place = at[records[i].user - first]++;
      items[place] = records[i].item + 1;
      if (timed_) times[place] = records[i].time;
    }
    if (!timed_) return;
    for (int64_t user = first; user < last; ++user) {
      sorter->add(offsets[user], at[user - first]);
    }
    sorter->finish();
  }

  int64_t n_users_;
  bool timed_;
  int shift_ = 0;                // users of a range, as a power of two
  std::vector<int64_t> starts_;  // [ranges + 1] first row of each range
  Buffer<Record<Time>> records_;
};

// users [rows] in 0..n_users-1; items [rows] (plus one afterwards) and times [rows] or null are
// sorted in place; offsets [n_users + 1].
template <typename Time>
void group_rows(const int32_t* users, int32_t* items, Time* times, int64_t rows, int64_t n_users,
                int threads, int64_t* offsets) {
  const Rows<Time> dealt(users, items, times, rows, n_users, threads);
  dealt.group(threads, items, times, offsets);
}

}  // namespace mclrec::reader
