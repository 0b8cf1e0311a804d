// One line taken apart by the full rules: quotes, blanks, every check. The slow but complete way,
// which mclrec_fast/data/fields.py defines; segment.h has the fast one for plain lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "iso_time.h"
#include "number.h"

namespace mclrec::reader {

// The codes of mclrec_fast/data/problems.py.
enum Code {
  kNulByte = 1,
  kCarriageReturn = 2,
  kQuoteNotClosed = 3,
  kQuoteTail = 4,
  kFieldCount = 5,
  kEmpty = 6,
  kTooLong = 7,
  kNotUtf8 = 8,
  kNotANumber = 9,
  kNotFinite = 10,
  kNoItems = 11,
  kRepeatedUser = 12,
  kNotATime = 13,
  kTimeOutOfRange = 14,
};
enum Field { kUser = 0, kItem = 1, kTime = 2, kRating = 3, kThen = 4 };

constexpr size_t kMaxDetailBytes = 48;
constexpr size_t kMaxProblems = 5;

struct Problem {
  int64_t line = 0;
  int code = 0;  // 0: none
  int field = 0;
  std::string detail;
  int64_t number = 0;
};

inline std::string detail_of(std::string_view text) {
  return std::string(text.substr(0, kMaxDetailBytes));
}

// What mclrec_fast/data/layout.py found; column numbers count from 0, -1 is none.
struct Layout {
  bool table = true;
  std::string delimiter = ",";  // one or two bytes; a space stands for any run of blanks
  bool quotes = true;
  int columns = 0;
  int user = 0, item = 1, time = -1, rating = -1, then = -1;
  bool time_is_iso = false, then_is_iso = false;

  bool blanks() const { return delimiter == " "; }
};

// A time, or what breaks its ties: a number, or ISO 8601 as an integer.
struct Moment {
  bool is_float = false;
  int64_t integer = 0;
  double real = 0;
};

struct Row {
  std::string_view user, item;
  Moment time, then;
  double rating = 0;
};

// Splits lines of a table; the fields it gives live until the next line.
class LineSplitter {
 public:
  explicit LineSplitter(const Layout& layout) : layout_(layout) {}

  const std::vector<std::string_view>& fields() const { return fields_; }

  // False: `problem` says why (its line is for the caller to fill in).
  bool split(std::string_view line, Problem* problem) {
    fields_.clear();
    unquoted_.clear();
    const bool quotes = layout_.quotes && line.find('"') != std::string_view::npos;
    size_t at = 0;
    if (layout_.blanks()) {
      if (!split_at_blanks(line, problem)) return false;
      for (const auto& [field, text] : unquoted_) fields_[field] = text;
      return true;
    }
    while (true) {
      if (quotes) {
        while (at < line.size() && blank(line[at])) ++at;
      }
      if (quotes && at < line.size() && line[at] == '"') {
        if (!quoted(line, &at, problem)) return false;
      } else {
        size_t end = line.find(layout_.delimiter, at);
        if (end == std::string_view::npos) end = line.size();
        fields_.push_back(strip(line.substr(at, end - at)));
        at = end;
      }
      if (at >= line.size()) break;
      at += layout_.delimiter.size();
    }
    for (const auto& [field, text] : unquoted_) fields_[field] = text;
    return true;
  }

 private:
  bool blank(char c) const { return is_blank(c) && c != layout_.delimiter[0]; }

  // Whether a quoted field may end before `at`.
  bool ends_field(std::string_view line, size_t at) const {
    if (at >= line.size()) return true;
    if (layout_.blanks()) return is_blank(line[at]);
    return line.substr(at, layout_.delimiter.size()) == layout_.delimiter;
  }

  bool split_at_blanks(std::string_view line, Problem* problem) {
    size_t at = 0;
    while (true) {
      while (at < line.size() && is_blank(line[at])) ++at;
      if (at >= line.size()) return true;
      if (layout_.quotes && line[at] == '"') {
        if (!quoted(line, &at, problem)) return false;
        continue;
      }
      const size_t from = at;
      while (at < line.size() && !is_blank(line[at])) ++at;
      fields_.push_back(line.substr(from, at - from));
    }
  }

  static std::string_view strip(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
  }

  // A quoted field that starts at `at`; on success `at` is at its separator or the line's end.
  bool quoted(std::string_view line, size_t* at, Problem* problem) {
    size_t from = *at + 1;
    std::string text;
    while (true) {
      const size_t end = line.find('"', from);
      if (end == std::string_view::npos) {
        problem->code = kQuoteNotClosed;
        return false;
      }
      text.append(line.substr(from, end - from));
      from = end + 1;
      if (from >= line.size() || line[from] != '"') break;
      text.push_back('"');
      ++from;
    }
    if (!layout_.blanks()) {
      while (from < line.size() && blank(line[from])) ++from;
    }
    if (!ends_field(line, from)) {
      problem->code = kQuoteTail;
      problem->detail = detail_of(line.substr(from));
      return false;
    }
    unquoted_.emplace_back(fields_.size(), std::move(text));
    fields_.emplace_back();
    *at = from;
    return true;
  }

  const Layout& layout_;
  std::vector<std::string_view> fields_;
  std::vector<std::pair<size_t, std::string>> unquoted_;
};

inline bool check_characters(std::string_view line, Problem* problem) {
  if (line.find('\0') != std::string_view::npos) {
    problem->code = kNulByte;
  } else if (line.find('\r') != std::string_view::npos) {
    problem->code = kCarriageReturn;
  }
  return problem->code == 0;
}

inline bool check_id(std::string_view token, Field field, Problem* problem) {
  problem->field = field;
  if (token.empty()) {
    problem->code = kEmpty;
  } else if (token.size() > kMaxIdBytes) {
    problem->code = kTooLong;
    problem->detail = detail_of(token);
    problem->number = static_cast<int64_t>(token.size());
  } else if (!valid_utf8(token)) {
    problem->code = kNotUtf8;
    problem->detail = detail_of(token);
  }
  return problem->code == 0;
}

inline bool check_number(std::string_view token, Field field, Number kind, Problem* problem) {
  if (kind == Number::kInteger || kind == Number::kFloat) return true;
  problem->field = field;
  if (kind == Number::kEmpty) {
    problem->code = kEmpty;
  } else {
    problem->code = kind == Number::kNotFinite    ? kNotFinite
                    : kind == Number::kNotATime   ? kNotATime
                    : kind == Number::kOutOfRange ? kTimeOutOfRange
                                                  : kNotANumber;
    problem->detail = detail_of(token);
  }
  return false;
}

inline bool parse_moment(std::string_view token, bool iso, Field field, Moment* moment,
                         Problem* problem) {
  const Number kind = iso ? parse_time(token, &moment->integer)
                          : parse_number(token, &moment->integer, &moment->real);
  moment->is_float = kind == Number::kFloat;
  return check_number(token, field, kind, problem);
}

// A whole row of a table; its texts live as long as the splitter's fields.
inline bool parse_row(std::string_view line, const Layout& layout, LineSplitter& splitter, Row* row,
                      Problem* problem) {
  if (!check_characters(line, problem)) return false;
  if (!splitter.split(line, problem)) return false;
  const auto& fields = splitter.fields();
  if (fields.size() != static_cast<size_t>(layout.columns)) {
    problem->code = kFieldCount;
    problem->number = static_cast<int64_t>(fields.size());
    return false;
  }
  row->user = fields[static_cast<size_t>(layout.user)];
  row->item = fields[static_cast<size_t>(layout.item)];
  if (!check_id(row->user, kUser, problem) || !check_id(row->item, kItem, problem)) return false;
  if (layout.time >= 0) {
    const std::string_view token = fields[static_cast<size_t>(layout.time)];
    if (!parse_moment(token, layout.time_is_iso, kTime, &row->time, problem)) return false;
  }
  if (layout.then >= 0) {
    const std::string_view token = fields[static_cast<size_t>(layout.then)];
    if (!parse_moment(token, layout.then_is_iso, kThen, &row->then, problem)) return false;
  }
  if (layout.rating >= 0) {
    const std::string_view token = fields[static_cast<size_t>(layout.rating)];
    int64_t integer = 0;
    const Number kind = parse_number(token, &integer, &row->rating);
    if (!check_number(token, kRating, kind, problem)) return false;
    if (kind == Number::kInteger) row->rating = static_cast<double>(integer);
  }
  return true;
}

// A line of the text format: its tokens, and whether they are a user and items.
inline bool parse_text(std::string_view line, std::vector<std::string_view>* tokens,
                       Problem* problem) {
  tokens->clear();
  if (!check_characters(line, problem)) return false;
  for (size_t at = 0; at < line.size();) {
    if (is_blank(line[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < line.size() && !is_blank(line[end])) ++end;
    tokens->push_back(line.substr(at, end - at));
    at = end;
  }
  for (size_t i = 0; i < tokens->size(); ++i) {
    if (!check_id((*tokens)[i], i == 0 ? kUser : kItem, problem)) return false;
  }
  if (tokens->size() == 1) {
    problem->field = kUser;
    problem->code = kNoItems;
    problem->detail = detail_of((*tokens)[0]);
    return false;
  }
  return true;
}

}  // namespace mclrec::reader
