// Rows -> users x items: a counting sort by user that keeps file order, then each user's rows
// sorted by time, ties in file order. Linear in rows, whatever order the file has.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "time_sort.h"

namespace mclrec::reader {

// Users per unit of sorting work, and how far ahead of the scatter memory is fetched.
constexpr int64_t kUsersPerTask = 1024;
constexpr int64_t kScatterAhead = 24;

// users [rows] in 0..n_users-1, items [rows], times [rows] or null -> items_out [rows] (plus one),
// times_out [rows], offsets [n_users + 1].
template <typename Time>
void to_csr(const int32_t* users, const int32_t* items, const Time* times, int64_t rows,
            int64_t n_users, int threads, int32_t* items_out, Time* times_out, int64_t* offsets) {
  // Each thread has a cursor per user; with very many users one thread is cheaper.
  if (n_users > rows / 2) threads = 1;
  const auto first_row = [&](int t) { return rows * t / threads; };
  std::vector<std::vector<int64_t>> cursors(static_cast<size_t>(threads));
  parallel(threads, [&](int t) {
    auto& counts = cursors[static_cast<size_t>(t)];
    counts.assign(static_cast<size_t>(n_users), 0);
    for (int64_t i = first_row(t); i < first_row(t + 1); ++i) {
      ++counts[static_cast<size_t>(users[i])];
    }
  });
  int64_t total = 0;
  for (int64_t u = 0; u < n_users; ++u) {
    offsets[u] = total;
    for (auto& counts : cursors) {
      const int64_t count = counts[static_cast<size_t>(u)];
      counts[static_cast<size_t>(u)] = total;
      total += count;
    }
  }
  offsets[n_users] = total;
  parallel(threads, [&](int t) {
    int64_t* cursor = cursors[static_cast<size_t>(t)].data();
    const int64_t end = first_row(t + 1);
    for (int64_t i = first_row(t); i < end; ++i) {
      if (i + 2 * kScatterAhead < end) __builtin_prefetch(&cursor[users[i + 2 * kScatterAhead]], 1);
      if (i + kScatterAhead < end) {
        const int64_t next = cursor[users[i + kScatterAhead]];
        __builtin_prefetch(&items_out[next], 1);
        if (times != nullptr) __builtin_prefetch(&times_out[next], 1);
      }
      const int64_t place = cursor[users[i]]++;
      items_out[place] = items[i] + 1;
      if (times != nullptr) times_out[place] = times[i];
    }
  });
  if (times == nullptr) return;
  std::atomic<int64_t> next{0};
  parallel(threads, [&](int) {
    TimeSorter<Time> sorter(items_out, times_out);
    while (true) {
      const int64_t from = next.fetch_add(kUsersPerTask);
      if (from >= n_users) return;
      for (int64_t u = from; u < std::min(from + kUsersPerTask, n_users); ++u) {
        sorter.add(offsets[u], offsets[u + 1]);
      }
      sorter.finish();
    }
  });
}

}  // namespace mclrec::reader
