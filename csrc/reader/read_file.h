// A whole log file: split at line boundaries, one segment per thread, then one numbering.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "parallel.h"
#include "segment.h"

namespace mclrec::reader {

class File {
 public:
  explicit File(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category());
    struct stat status;
    if (fstat(descriptor_, &status) != 0) {
      const int error = errno;
      close(descriptor_);
      throw std::system_error(error, std::generic_category());
    }
    size_ = status.st_size;
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const { return descriptor_; }
  int64_t size() const { return size_; }

  // The start of the first line at or after `at`.
  int64_t line_start(int64_t at) const {
    std::vector<char> block(1 << 14);
    while (at < size_) {
      const ssize_t n = pread(descriptor_, block.data(), block.size(), at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw std::system_error(errno, std::generic_category());
      if (n == 0) break;
      const auto found = std::find(block.begin(), block.begin() + n, '\n');
      if (found != block.begin() + n) return at + (found - block.begin()) + 1;
      at += n;
    }
    return size_;
  }

 private:
  int descriptor_;
  int64_t size_ = 0;
};

// Rows in file order with one numbering, or the first problems.
struct Log {
  IdMap user_ids, item_ids;
  Buffer<int32_t> users, items;
  Buffer<Value> times, then;
  Buffer<double> ratings;
  bool times_are_float = false, then_is_float = false;
  int64_t times_spooled_integers = 0, then_spooled_integers = 0;  // see TimeColumn
  std::vector<Problem> problems;
  int64_t n_problems = 0;
};

inline std::vector<std::unique_ptr<Segment>> cut(const File& file, int64_t offset,
                                                 const Effort& effort, const Layout& layout) {
  const int64_t bytes = std::max<int64_t>(file.size() - offset, 0);
  const int64_t parts = std::clamp<int64_t>(bytes / effort.bytes_per_thread, 1, effort.threads);
  std::vector<std::unique_ptr<Segment>> segments;
  int64_t begin = offset;
  for (int64_t part = 1; part <= parts; ++part) {
    const int64_t wanted = offset + bytes * part / parts;
    const int64_t end = part == parts ? file.size() : std::max(begin, file.line_start(wanted - 1));
    segments.push_back(
        std::make_unique<Segment>(file.descriptor(), nullptr, begin, end, effort, layout));
    begin = end;
  }
  return segments;
}

// Adds the ids of another map and says what each of its codes has become.
inline std::vector<int32_t> merge_ids(IdMap& into, IdMap& from) {
  if (into.is_text() != from.is_text()) {
    into.become_text();
    from.become_text();
  }
  std::vector<int32_t> codes(from.size());
  if (into.is_text()) {
    into.add_texts(from.texts().data(), from.size(), codes.data());
  } else {
    into.add_integers(from.integers().data(), from.size(), codes.data());
  }
  from = IdMap();
  return codes;
}

// Appends the columns of the segments to `column`, codes translated.
template <typename T, typename Take>
void append(Buffer<T>& column, std::vector<std::unique_ptr<Segment>>& segments,
            const std::vector<std::vector<int32_t>>* codes, const Take& take) {
  std::vector<size_t> start;
  size_t total = column.size();
  for (size_t s = 1; s < segments.size(); ++s) {
    start.push_back(total);
    total += take(*segments[s]).size();
  }
  column.resize(total);
  parallel(static_cast<int>(segments.size()), [&](int t) {
    if (t == 0) return;
    const auto s = static_cast<size_t>(t);
    Buffer<T>& from = take(*segments[s]);
    T* to = column.data() + start[s - 1];
    if constexpr (std::is_same_v<T, int32_t>) {
      const auto& translate = (*codes)[s];
      for (size_t i = 0; i < from.size(); ++i) to[i] = translate[static_cast<size_t>(from[i])];
    } else {
      std::copy_n(from.data(), from.size(), to);
    }
    from = Buffer<T>();
  });
}

// Text format: a user with two lines. Runs after the merge, when users have their final codes.
inline void find_repeated_users(const std::vector<std::unique_ptr<Segment>>& segments,
                                const std::vector<std::vector<int32_t>>& codes,
                                const std::vector<int64_t>& line_of, Log* log) {
  std::vector<int64_t> first(log->user_ids.size(), -1);
  size_t found = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    for (const UserLine& row : segments[s]->user_lines) {
      const auto local = static_cast<size_t>(row.user);
      const size_t user = s == 0 ? local : static_cast<size_t>(codes[s][local]);
      const int64_t line = line_of[s] + row.line;
      if (first[user] < 0) {
        first[user] = line;
        continue;
      }
      ++log->n_problems;
      if (found++ >= kMaxProblems) continue;
      const std::string id = log->user_ids.is_text()
                                 ? std::string(log->user_ids.texts()[user])
                                 : std::to_string(log->user_ids.integers()[user]);
      log->problems.push_back({line, kRepeatedUser, kUser, detail_of(id), first[user]});
    }
  }
}

// One column of times, all doubles as soon as one segment has some.
template <typename Take>
void join_times(std::vector<std::unique_ptr<Segment>>& segments, bool floats, Buffer<Value>* into,
                const Take& take) {
  if (floats) {
    parallel(static_cast<int>(segments.size()),
             [&](int t) { take(*segments[static_cast<size_t>(t)]).to_double(); });
  }
  *into = std::move(take(*segments[0]).values);
  append(*into, segments, nullptr, [&](Segment& s) -> auto& { return take(s).values; });
}

inline Log read_segments(std::vector<std::unique_ptr<Segment>> segments, int64_t first_line,
                         const Layout& layout) {
  parallel(static_cast<int>(segments.size()),
           [&](int t) { segments[static_cast<size_t>(t)]->read(); });

  Log log;
  std::vector<int64_t> line_of;
  int64_t line = first_line;
  for (const auto& segment : segments) {
    line_of.push_back(line);
    for (Problem& problem : segment->problems) {
      problem.line += line;
      log.problems.push_back(std::move(problem));
    }
    log.n_problems += segment->n_problems;
    log.times_are_float |= segment->times.is_float;
    log.then_is_float |= segment->then.is_float;
    line += segment->n_lines;
  }
  Segment& head = *segments[0];
  log.times_spooled_integers = head.times.spooled_integers;
  log.then_spooled_integers = head.then.spooled_integers;
  log.user_ids = std::move(head.user_ids);
  log.item_ids = std::move(head.item_ids);
  std::vector<std::vector<int32_t>> user_codes(segments.size()), item_codes(segments.size());
  for (size_t s = 1; s < segments.size(); ++s) {
    user_codes[s] = merge_ids(log.user_ids, segments[s]->user_ids);
    item_codes[s] = merge_ids(log.item_ids, segments[s]->item_ids);
  }
  if (!layout.table) find_repeated_users(segments, user_codes, line_of, &log);
  if (log.n_problems > 0) {
    std::stable_sort(log.problems.begin(), log.problems.end(),
                     [](const Problem& a, const Problem& b) { return a.line < b.line; });
    if (log.problems.size() > kMaxProblems) log.problems.resize(kMaxProblems);
    return log;
  }
  log.users = std::move(head.users);
  log.items = std::move(head.items);
  log.ratings = std::move(head.ratings);
  append(log.users, segments, &user_codes, [](Segment& s) -> auto& { return s.users; });
  append(log.items, segments, &item_codes, [](Segment& s) -> auto& { return s.items; });
  join_times(segments, log.times_are_float, &log.times,
             [](Segment& s) -> auto& { return s.times; });
  join_times(segments, log.then_is_float, &log.then, [](Segment& s) -> auto& { return s.then; });
  append(log.ratings, segments, nullptr, [](Segment& s) -> auto& { return s.ratings; });
  return log;
}

inline Log read_log(const std::string& path, int64_t offset, int64_t first_line,
                    const Layout& layout, const Effort& effort) {
  const File file(path);
  return read_segments(cut(file, offset, effort, layout), first_line, layout);
}

inline Log read_stream(const Pull& pull, int64_t first_line, const Layout& layout,
                       const Effort& effort) {
  std::vector<std::unique_ptr<Segment>> one;
  one.push_back(std::make_unique<Segment>(-1, &pull, 0, 0, effort, layout));
  return read_segments(std::move(one), first_line, layout);
}

}  // namespace mclrec::reader
