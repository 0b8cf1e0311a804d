// Times in words of ISO 8601, as nanoseconds since 1970-01-01T00:00 UTC.
// mclrec_fast/data/times.py is the definition; this file repeats it.
#pragma once

#include <cstdint>
#include <string_view>

#include "number.h"

namespace mclrec::reader {

constexpr size_t kMaxTimeBytes = 48;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int kFirstYear = 1678, kLastYear = 2261;  // years that fit 64 bits of nanoseconds whole

// Days since 1970-01-01 of a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level
// date algorithms": years start in March, so that the leap day is the last one).
constexpr int64_t days_of_date(int year, int month, int day) {
  const int shifted = month <= 2 ? year - 1 : year;
  const int era = shifted / 400, of_era = shifted % 400;
  const int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  return int64_t{era} * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

constexpr int days_of_month(int year, int month) {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

// Takes a time apart from left to right.
class TimeScanner {
 public:
  explicit TimeScanner(std::string_view token)
      : at_(token.data()), end_(token.data() + token.size()) {}

  // kInteger (`nanos` is set), kNotATime or kOutOfRange.
  Number scan(int64_t* nanos) {
    int year = 1970, month = 1, day = 1;
    bool basic = false;
    if (end_ - at_ >= 3 && at_[2] == ':') {  // a time of day alone
      if (!clock(false)) return Number::kNotATime;
      *nanos = seconds_ * kNanosPerSecond + fraction_;
      return Number::kInteger;
    }
    if (!number(4, &year)) return Number::kNotATime;
    const char mark = at_ < end_ ? *at_ : '\0';
    if (mark == '-' || mark == '/') {
      ++at_;
      if (!number(2, &month) || at_ == end_ || *at_ != mark) return Number::kNotATime;
      ++at_;
    } else {
      basic = true;
      if (!number(2, &month)) return Number::kNotATime;
    }
    if (!number(2, &day)) return Number::kNotATime;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month)) {
      return Number::kNotATime;
    }
    const bool timed = at_ < end_;
    if (timed) {
      if (*at_ != 'T' && *at_ != 't' && (basic || *at_ != ' ')) return Number::kNotATime;
      ++at_;
      if (!clock(true)) return Number::kNotATime;
    } else if (basic) {
      return Number::kNotATime;  // eight digits are a number
    }
    if (year < kFirstYear || year > kLastYear) return Number::kOutOfRange;
    *nanos = (days_of_date(year, month, day) * 86400 + seconds_) * kNanosPerSecond + fraction_;
    return Number::kInteger;
  }

 private:
  bool number(int digits, int* value) {
    if (end_ - at_ < digits) return false;
    int sum = 0;
    for (int i = 0; i < digits; ++i) {
      if (!is_digit(at_[i])) return false;
      sum = sum * 10 + (at_[i] - '0');
    }
    at_ += digits;
    *value = sum;
    return true;
  }

  // hh, hh:mm, hh:mm:ss or hh:mm:ss.f, with or without the colons, then perhaps a zone.
  bool clock(bool zoned) {
    int hour = 0, minute = 0, second = 0;
    if (!number(2, &hour) || hour > 23) return false;
    const bool colon = at_ < end_ && *at_ == ':';
    const auto next = [&](int most, int* value) {
      if (colon) ++at_;
      return number(2, value) && *value <= most;
    };
    const auto more = [&] { return at_ < end_ && (colon ? *at_ == ':' : is_digit(*at_)); };
    if (more()) {
      if (!next(59, &minute)) return false;
      if (more()) {
        if (!next(60, &second) || !fraction()) return false;
      }
    }
    seconds_ = (hour * 60 + minute) * 60 + second;
    if (at_ == end_) return true;
    return zoned && zone() && at_ == end_;
  }

  // Nothing, or a mark and digits, of which nine count.
  bool fraction() {
    if (at_ == end_ || (*at_ != '.' && *at_ != ',')) return true;
    ++at_;
    const char* from = at_;
    int64_t place = kNanosPerSecond / 10;
    while (at_ < end_ && is_digit(*at_)) {
      fraction_ += (*at_++ - '0') * place;
      place /= 10;
    }
    return at_ > from;
  }

  bool zone() {
    if (*at_ == ' ') ++at_;
    const std::string_view rest(at_, static_cast<size_t>(end_ - at_));
    if (rest == "Z" || rest == "z" || rest == "UTC" || rest == "GMT") {
      at_ = end_;
      return true;
    }
    if (rest.empty() || (rest[0] != '+' && rest[0] != '-')) return false;
    ++at_;
    int hours = 0, minutes = 0;
    if (!number(2, &hours) || hours > 23) return false;
    if (at_ < end_) {
      if (*at_ == ':') ++at_;
      if (!number(2, &minutes) || minutes > 59) return false;
    }
    const int64_t offset = (hours * 60 + minutes) * 60;
    seconds_ += rest[0] == '+' ? -offset : offset;
    return true;
  }

  const char* at_;
  const char* end_;
  int64_t seconds_ = 0, fraction_ = 0;
};

inline Number parse_time(std::string_view token, int64_t* nanos) {
  if (token.empty()) return Number::kEmpty;
  if (token.size() > kMaxTimeBytes) return Number::kNotATime;
  return TimeScanner(token).scan(nanos);
}

}  // namespace mclrec::reader
