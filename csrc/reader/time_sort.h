// Sorts the rows of users by time, stable. Users are gathered into blocks that stay in cache; a
// block is radix-sorted by time as one (no comparison, so no mispredicted branch) and dealt back
// to its users. Users already in order, the usual case in a log, cost one look.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace mclrec::reader {

// Unsigned integers in the order of the times.
inline uint64_t to_ordered(int64_t time) { return static_cast<uint64_t>(time) ^ (1ull << 63); }
inline uint64_t to_ordered(double time) {
  const auto bits = std::bit_cast<uint64_t>(time + 0.0);  // -0.0 becomes 0.0
  return (bits >> 63) != 0 ? ~bits : bits | (1ull << 63);
}
inline void from_ordered(uint64_t ordered, int64_t* time) {
  *time = static_cast<int64_t>(ordered ^ (1ull << 63));
}
inline void from_ordered(uint64_t ordered, double* time) {
  *time = std::bit_cast<double>((ordered >> 63) != 0 ? ordered ^ (1ull << 63) : ~ordered);
}

template <typename Time>
class TimeSorter {
 public:
  TimeSorter(int32_t* items, Time* times) : items_(items), times_(times) {}

  // Sorts rows [begin, end) of one user, now or at `finish`.
  void add(int64_t begin, int64_t end) {
    if (std::is_sorted(times_ + begin, times_ + end)) return;
    users_.emplace_back(begin, end);
    rows_ += static_cast<size_t>(end - begin);
    if (rows_ >= kBlockRows) finish();
  }

  void finish() {
    if (rows_ > 0 && !sort_block()) {
      for (const auto& [begin, end] : users_) sort_by_comparison(begin, end);
    }
    users_.clear();
    rows_ = 0;
  }

 private:
  static constexpr size_t kBlockRows = 1 << 13;
  static constexpr int kMaxDigit = 11;
  static constexpr int kMaxPasses = 6;

  // False (nothing done) when the times span too much to be packed beside a row number.
  bool sort_block() {
    uint64_t low = ~0ull, high = 0;
    for (const auto& [begin, end] : users_) {
      for (int64_t i = begin; i < end; ++i) {
        const uint64_t time = to_ordered(times_[i]);
        low = std::min(low, time);
        high = std::max(high, time);
      }
    }
    const auto row_bits = static_cast<int>(std::bit_width(rows_ - 1));
    const auto time_bits = static_cast<int>(std::bit_width(high - low));
    const int passes = (time_bits + kMaxDigit - 1) / kMaxDigit;
    if (row_bits + time_bits > 64 || passes > kMaxPasses) return false;
    pack(low, row_bits);
    radix_sort(row_bits, (time_bits + passes - 1) / passes, passes);
    deal(low, row_bits);
    return true;
  }

  // keys_ [rows]: (time - low) << row_bits | row.
  void pack(uint64_t low, int row_bits) {
    keys_.resize(rows_);
    spare_.resize(rows_);
    kept_.resize(rows_);
    user_of_.resize(rows_);
    size_t row = 0;
    for (size_t u = 0; u < users_.size(); ++u) {
      for (int64_t i = users_[u].first; i < users_[u].second; ++i, ++row) {
        keys_[row] = (to_ordered(times_[i]) - low) << row_bits | row;
        kept_[row] = items_[i];
        user_of_[row] = static_cast<uint32_t>(u);
      }
    }
  }

  // By the time bits only, least significant digit first; rows start in order and stay so.
  void radix_sort(int shift, int digit, int passes) {
    const uint64_t mask = (1ull << digit) - 1;
    for (auto& counts : counts_) counts.fill(0);
    for (const uint64_t key : keys_) {
      for (int pass = 0; pass < passes; ++pass) {
        ++counts_[static_cast<size_t>(pass)][key >> (shift + pass * digit) & mask];
      }
    }
    for (int pass = 0; pass < passes; ++pass, shift += digit) {
      auto& counts = counts_[static_cast<size_t>(pass)];
      uint32_t total = 0;
      for (size_t d = 0; d <= mask; ++d) total += std::exchange(counts[d], total);
      for (const uint64_t key : keys_) spare_[counts[key >> shift & mask]++] = key;
      keys_.swap(spare_);
    }
  }

  void deal(uint64_t low, int row_bits) {
    for (const uint64_t key : keys_) {
      const uint64_t row = key & ((1ull << row_bits) - 1);
      int64_t& at = users_[user_of_[row]].first;
      items_[at] = kept_[row];
      from_ordered((key >> row_bits) + low, &times_[at]);
      ++at;
    }
  }

  void sort_by_comparison(int64_t begin, int64_t end) {
    pairs_.clear();
    for (int64_t i = begin; i < end; ++i) pairs_.emplace_back(times_[i], items_[i]);
    std::stable_sort(pairs_.begin(), pairs_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& pair : pairs_) {
      std::tie(times_[begin], items_[begin]) = pair;
      ++begin;
    }
  }

  int32_t* items_;
  Time* times_;
  std::vector<std::pair<int64_t, int64_t>> users_;  // rows to sort
  size_t rows_ = 0;
  std::vector<uint64_t> keys_, spare_;  // [rows]
  std::vector<int32_t> kept_;           // [rows] items
  std::vector<uint32_t> user_of_;       // [rows]
  std::array<std::array<uint32_t, 1 << kMaxDigit>, kMaxPasses> counts_;
  std::vector<std::pair<Time, int32_t>> pairs_;
};

}  // namespace mclrec::reader
