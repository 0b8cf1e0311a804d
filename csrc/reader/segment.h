// One thread's part of a file: reads it block by block, codes its ids, keeps its columns.
// Plain lines of a table are parsed in place, without copies or allocation; every other line, and
// every problem, goes through line.h.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "buffer.h"
#include "id_map.h"
#include "line.h"

namespace mclrec::reader {

constexpr size_t kBatchRows = 1024;
// The next bytes of a stream, empty at its end; they stay until the next call.
using Pull = std::function<std::string_view()>;

// int64 until the first number that is none, then double; both have 8 bytes.
union Value {
  int64_t integer;
  double real;
};

// A column of times: integers until the first number that is none.
struct TimeColumn {
  bool used = false, iso = false, is_float = false;
  Buffer<Value> values;
  std::array<Value, kBatchRows> batch;  // parsed and not yet in `values`
  int64_t spooled = 0;                  // values that were in `values` and are in a file now
  int64_t spooled_integers = 0;         // how many of them are integers, of a column of doubles

  void to_double() {
    if (is_float) return;
    is_float = true;
    spooled_integers = spooled;
    for (size_t i = 0; i < values.size(); ++i) {
      values[i].real = static_cast<double>(values[i].integer);
    }
  }

  void push(const Moment& moment) {
    if (moment.is_float) to_double();
    Value value;
    if (moment.is_float) {
      value.real = moment.real;
    } else if (is_float) {
      value.real = static_cast<double>(moment.integer);
    } else {
      value.integer = moment.integer;
    }
    values.push(value);
  }
};

struct UserLine {
  int32_t user;
  int64_t line;
};

// Files that take the columns of a log larger than memory, in the order of its rows.
struct Spool {
  int users = -1, items = -1, times = -1, then = -1, ratings = -1;  // descriptors
  size_t rows = 1 << 18;                                            // held in memory, about
};

class SpoolError : public std::system_error {
 public:
  using std::system_error::system_error;
};

// Writes a column behind what its file holds, and empties it.
template <typename T>
void write_out(int file, Buffer<T>* column) {
  const char* at = reinterpret_cast<const char*>(column->data());
  size_t left = column->size() * sizeof(T);
  while (left > 0) {
    const ssize_t n = write(file, at, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SpoolError(errno, std::generic_category());
    at += n;
    left -= static_cast<size_t>(n);
  }
  column->resize(0);
}

struct Effort {
  int threads = 1;
  int64_t bytes_per_thread = 1 << 20;          // smaller files are read by fewer threads
  size_t block_bytes = 1 << 19;                // read at a time
  std::atomic<int64_t>* bytes_read = nullptr;  // of a file, so far: for who wants to watch
  const Spool* spool = nullptr;                // where columns go, of one thread
};

class Segment {
 public:
  // Bytes [begin, end) of a file, or (with `pull`) all that comes from a stream.
  Segment(int file, const Pull* pull, int64_t begin, int64_t end, const Effort& effort,
          const Layout& layout)
      : layout_(layout),
        file_(file),
        pull_(pull),
        at_(begin),
        begin_(begin),
        end_(end),
        block_bytes_(effort.block_bytes),
        bytes_read_(effort.bytes_read),
        spool_(effort.spool),
        splitter_(layout_) {
    set_up_roles();
  }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  void read() {
    // Behind what is read: a newline for a last line without one, and what scan_digits looks at.
    constexpr size_t kBehind = 1 + kScanSlack;
    size_t room = block_bytes_, kept = 0;
    block_.resize(room + kBehind);
    std::memset(block_.data(), 0, block_.size());
    while (true) {
      if (kept == room) {
        room *= 2;
        block_.resize(room + kBehind);
        std::memset(block_.data() + kept, 0, block_.size() - kept);
      }
      const size_t size = kept + fill(block_.data() + kept, room - kept);
      const bool last = size == kept;
      size_t whole = size;
      if (last) {
        if (size == 0) break;
        block_[whole++] = '\n';  // the last line has no end of its own
      } else {
        while (whole > 0 && block_[whole - 1] != '\n') --whole;
      }
      lines(block_.data(), block_.data() + whole);
      flush();
      if (spool_ != nullptr && items.size() >= spool_->rows) spool();
      if (last) break;
      reserve_rest();
      kept = size - whole;
      std::memmove(block_.data(), block_.data() + whole, kept);
    }
    if (spool_ != nullptr) spool();
    block_ = Buffer<char>();
  }

  IdMap user_ids, item_ids;
  Buffer<int32_t> users, items;  // local codes
  TimeColumn times, then;
  Buffer<double> ratings;
  std::vector<UserLine> user_lines;  // text format: the line of each user, lines from 0
  std::vector<Problem> problems;     // the first ones
  int64_t n_problems = 0;
  int64_t n_lines = 0;

 private:
  enum Role : uint8_t { kSkip, kRoleUser, kRoleItem, kRoleTime, kRoleRating, kRoleThen };

  void set_up_roles() {
    stop_.fill(false);
    for (const char c : {'\n', '\r', '\0'}) stop_[static_cast<unsigned char>(c)] = true;
    if (!layout_.table) {
      stop_[' '] = stop_['\t'] = true;
      return;
    }
    stop_[static_cast<unsigned char>(layout_.delimiter[0])] = true;
    if (layout_.blanks()) stop_['\t'] = true;
    roles_.assign(static_cast<size_t>(layout_.columns), kSkip);
    const auto set = [&](int column, Role role) {
      if (column >= 0) roles_[static_cast<size_t>(column)] = role;
    };
    set(layout_.user, kRoleUser);
    set(layout_.item, kRoleItem);
    set(layout_.time, kRoleTime);
    set(layout_.rating, kRoleRating);
    set(layout_.then, kRoleThen);
    times.used = layout_.time >= 0;
    times.iso = layout_.time_is_iso;
    then.used = layout_.then >= 0;
    then.iso = layout_.then_is_iso;
  }

  size_t fill(char* to, size_t room) {
    if (pull_ != nullptr) return fill_from_stream(to, room);
    size_t got = 0;
    while (got < room && at_ < end_) {
      const size_t want = std::min(room - got, static_cast<size_t>(end_ - at_));
      const ssize_t n = pread(file_, to + got, want, at_);
      if (n < 0) {
        if (errno == EINTR) continue;
        throw std::system_error(errno, std::generic_category());
      }
      if (n == 0) break;
      got += static_cast<size_t>(n);
      at_ += n;
    }
    if (bytes_read_ != nullptr) {
      bytes_read_->fetch_add(static_cast<int64_t>(got), std::memory_order_relaxed);
    }
    return got;
  }

  size_t fill_from_stream(char* to, size_t room) {
    if (pulled_.empty()) pulled_ = (*pull_)();
    const size_t got = std::min(room, pulled_.size());
    std::memcpy(to, pulled_.data(), got);
    pulled_.remove_prefix(got);
    return got;
  }

  void spool() {
    write_out(spool_->users, &users);
    write_out(spool_->items, &items);
    for (const auto& [column, file] : {std::pair(&times, spool_->times), {&then, spool_->then}}) {
      if (!column->used) continue;
      column->spooled += static_cast<int64_t>(column->values.size());
      write_out(file, &column->values);
    }
    if (layout_.rating >= 0) write_out(spool_->ratings, &ratings);
  }

  // After the first block: room for the rows to come, by the rows so far.
  void reserve_rest() {
    if (reserved_ || pull_ != nullptr || spool_ != nullptr || at_ == begin_) return;
    reserved_ = true;
    const double share = static_cast<double>(end_ - begin_) / static_cast<double>(at_ - begin_);
    const auto rows = static_cast<size_t>(static_cast<double>(items.size()) * share * 1.05);
    users.reserve(rows);
    items.reserve(rows);
    if (times.used) times.values.reserve(rows);
    if (then.used) then.values.reserve(rows);
    if (layout_.rating >= 0) ratings.reserve(rows);
  }

  // All of [p, end), which ends with a newline.
  void lines(const char* p, const char* end) {
    while (p < end) {
      const char* next = layout_.table ? table_line(p) : text_line(p);
      if (next == nullptr) {
        next = static_cast<const char*>(std::memchr(p, '\n', static_cast<size_t>(end - p))) + 1;
        std::string_view line(p, static_cast<size_t>(next - 1 - p));
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (layout_.table) {
          slow_table_line(line);
        } else {
          slow_text_line(line);
        }
      }
      p = next;
      ++n_lines;
    }
  }

  void report(Problem&& problem) {
    ++n_problems;
    problem.line = n_lines;
    if (problems.size() < kMaxProblems) problems.push_back(std::move(problem));
  }

  // --- tables -----------------------------------------------------------------------------------

  // Parses a plain line into the batch; null (nothing kept) when it is not plain.
  const char* table_line(const char* p) {
    if (batch_ == kBatchRows) flush();
    const size_t columns = roles_.size();
    if (blanks_) {
      while (is_blank(*p)) ++p;
    }
    for (size_t column = 0; column < columns; ++column) {
      if (layout_.quotes && (*p == '"' || is_blank(*p)) && *p != mark_) return nullptr;
      switch (roles_[column]) {
        case kSkip:
          if (blanks_ && stop_[static_cast<unsigned char>(*p)]) return nullptr;  // no field here
          while (!stop_[static_cast<unsigned char>(*p)]) ++p;
          break;
        case kRoleUser:
          p = user_ids.is_text() ? text_id(p, &user_texts_) : integer_id(p, &user_integers_);
          break;
        case kRoleItem:
          p = item_ids.is_text() ? text_id(p, &item_texts_) : integer_id(p, &item_integers_);
          break;
        case kRoleTime:
          p = time(p, &times);
          break;
        case kRoleThen:
          p = time(p, &then);
          break;
        case kRoleRating:
          p = number(p, &ratings_[batch_]);
          break;
      }
      if (p == nullptr) return nullptr;
      if (blanks_) {
        if (column + 1 < columns && !is_blank(*p)) return nullptr;
        while (is_blank(*p)) ++p;
        if (column + 1 < columns) continue;
      }
      if (column + 1 < columns) {
        if (*p != mark_) return nullptr;
        if (two_marks_ && *++p != layout_.delimiter[1]) return nullptr;
      } else {
        if (*p == '\r') ++p;
        if (*p != '\n') return nullptr;
      }
      ++p;
    }
    ++batch_;
    return p;
  }

  const char* integer_id(const char* p, std::array<int64_t, kBatchRows>* values) {
    const bool negative = *p == '-';
    p += negative;
    const char* from = p;
    int64_t value = 0;
    p = scan_digits(p, &value);
    const auto digits = p - from;
    if (digits < 1 || digits > 18) return nullptr;
    if (*from == '0' && (digits > 1 || negative)) return nullptr;
    (*values)[batch_] = negative ? -value : value;
    return p;
  }

  const char* text_id(const char* p, std::array<std::string_view, kBatchRows>* texts) {
    const char* from = p;
    signed char all = 0;
    while (!stop_[static_cast<unsigned char>(*p)]) all |= static_cast<signed char>(*p++);
    const auto size = static_cast<size_t>(p - from);
    if (size < 1 || size > kMaxIdBytes || all < 0 || is_blank(*from) || is_blank(p[-1])) {
      return nullptr;
    }
    (*texts)[batch_] = std::string_view(from, size);
    return p;
  }

  const char* time(const char* p, TimeColumn* column) {
    if (column->is_float) return number(p, &column->batch[batch_].real);
    if (column->iso) return iso_time(p, &column->batch[batch_].integer);
    const bool negative = *p == '-';
    p += negative;
    const char* from = p;
    int64_t value = 0;
    p = scan_digits(p, &value);
    if (p - from < 1 || p - from > 18) return nullptr;
    column->batch[batch_].integer = negative ? -value : value;
    return p;
  }

  const char* iso_time(const char* p, int64_t* nanos) const {
    const char* from = p;
    while (!stop_[static_cast<unsigned char>(*p)]) ++p;
    const std::string_view token(from, static_cast<size_t>(p - from));
    return parse_time(token, nanos) == Number::kInteger ? p : nullptr;
  }

  // A decimal that starts with a digit.
  const char* number(const char* p, double* value) const {
    const char* from = p;
    int64_t integer = 0;
    p = scan_digits(p, &integer);
    if (p - from < 1 || p - from > 18) return nullptr;
    *value = static_cast<double>(integer);
    if (stop_[static_cast<unsigned char>(*p)]) return p;
    while (!stop_[static_cast<unsigned char>(*p)]) ++p;
    const std::string_view token(from, static_cast<size_t>(p - from));
    if (parse_number(token, &integer, value) != Number::kFloat) return nullptr;
    return p;
  }

  // Codes the rows of the batch; the texts in it point into the current block.
  void flush() {
    if (batch_ == 0) return;
    code(user_ids, user_integers_, user_texts_, users.extend(batch_));
    code(item_ids, item_integers_, item_texts_, items.extend(batch_));
    for (TimeColumn* column : {&times, &then}) {
      if (!column->used) continue;
      std::memcpy(column->values.extend(batch_), column->batch.data(), batch_ * sizeof(Value));
    }
    if (layout_.rating >= 0) {
      std::memcpy(ratings.extend(batch_), ratings_.data(), batch_ * sizeof(double));
    }
    batch_ = 0;
  }

  void code(IdMap& ids, const std::array<int64_t, kBatchRows>& integers,
            const std::array<std::string_view, kBatchRows>& texts, int32_t* codes) const {
    if (ids.is_text()) {
      ids.add_texts(texts.data(), batch_, codes);
    } else {
      ids.add_integers(integers.data(), batch_, codes);
    }
  }

  void slow_table_line(std::string_view line) {
    flush();
    if (line.empty()) return;
    if (blanks_ && line.find_first_not_of(" \t") == std::string_view::npos) return;
    Row row;
    Problem problem;
    if (!parse_row(line, layout_, splitter_, &row, &problem)) return report(std::move(problem));
    users.push(user_ids.add(row.user));
    items.push(item_ids.add(row.item));
    if (times.used) times.push(row.time);
    if (then.used) then.push(row.then);
    if (layout_.rating >= 0) ratings.push(row.rating);
  }

  // --- text: one line per user ------------------------------------------------------------------

  // Parses a line of canonical integers; null (nothing kept) when it is anything else.
  const char* text_line(const char* p) {
    if (user_ids.is_text() || item_ids.is_text()) return nullptr;
    int64_t user = 0;
    size_t tokens = 0;
    const size_t before = items.size();
    while (true) {
      while (is_blank(*p)) ++p;
      if (*p == '\r' && p[1] == '\n') ++p;
      if (*p == '\n') break;
      const bool negative = *p == '-';
      p += negative;
      const char* from = p;
      int64_t value = 0;
      p = scan_digits(p, &value);
      const auto digits = p - from;
      const bool odd = digits < 1 || digits > 18 || !stop_[static_cast<unsigned char>(*p)] ||
                       (*from == '0' && (digits > 1 || negative));
      if (odd) {
        items.resize(before);
        return nullptr;
      }
      value = negative ? -value : value;
      if (tokens++ == 0) {
        user = value;
      } else {
        items.push(item_ids.add_integer(value));
      }
    }
    if (tokens == 1) return nullptr;  // a user without items
    if (tokens > 0) add_user(user_ids.add_integer(user), items.size() - before);
    return p + 1;
  }

  void slow_text_line(std::string_view line) {
    Problem problem;
    if (!parse_text(line, &tokens_, &problem)) return report(std::move(problem));
    if (tokens_.empty()) return;
    for (size_t i = 1; i < tokens_.size(); ++i) items.push(item_ids.add(tokens_[i]));
    add_user(user_ids.add(tokens_[0]), tokens_.size() - 1);
  }

  void add_user(int32_t user, size_t count) {
    std::fill_n(users.extend(count), count, user);
    user_lines.push_back({user, n_lines});
  }

  const Layout layout_;
  const bool blanks_ = layout_.blanks();
  const char mark_ = layout_.delimiter[0];
  const bool two_marks_ = layout_.delimiter.size() == 2;
  const int file_;
  const Pull* const pull_;
  std::string_view pulled_;
  int64_t at_;
  const int64_t begin_, end_;
  const size_t block_bytes_;
  std::atomic<int64_t>* const bytes_read_;
  const Spool* const spool_;
  bool reserved_ = false;
  Buffer<char> block_;
  std::array<bool, 256> stop_;  // characters that end a field
  std::vector<Role> roles_;     // by column
  LineSplitter splitter_;
  std::vector<std::string_view> tokens_;
  // Rows parsed and not yet coded.
  size_t batch_ = 0;
  std::array<int64_t, kBatchRows> user_integers_, item_integers_;
  std::array<std::string_view, kBatchRows> user_texts_, item_texts_;
  std::array<double, kBatchRows> ratings_;
};

}  // namespace mclrec::reader
