// Numbers and text as the format defines them: canonical integer ids, times and ratings, UTF-8.
// mclrec_fast/data/fields.py is the definition; this file repeats it.
#pragma once

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace mclrec::reader {

constexpr size_t kMaxIdBytes = 1024;

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') <= 9; }
inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

// Readable bytes that `scan_digits` needs after the end of what it scans.
constexpr size_t kScanSlack = 8;

// Reads decimal digits, eight at a time, up to the first other character, which is returned; the
// value is meaningless past 18 digits.
inline const char* scan_digits(const char* p, int64_t* value) {
  uint64_t sum = 0;
  if constexpr (std::endian::native == std::endian::little) {
    static constexpr uint64_t kPower[] = {1,      10,      100,      1000,     10000,
                                          100000, 1000000, 10000000, 100000000};
    while (true) {
      uint64_t word;
      std::memcpy(&word, p, 8);
      word ^= 0x3030303030303030u;
      // The lowest byte above 9 has its top bit set here; what a carry does above it is no matter.
      const uint64_t other = ((word + 0x7676767676767676u) | word) & 0x8080808080808080u;
      const int digits = other == 0 ? 8 : std::countr_zero(other) / 8;
      if (digits == 0) break;
      word <<= 64 - 8 * digits;
      word = word * 10 + (word >> 8);  // pairs
      word = (((word & 0x000000FF000000FFu) * 0x000F424000000064u) +
              (((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u)) >>
             32;
      sum = sum * kPower[digits] + word;
      p += digits;
      if (digits < 8) break;
    }
  } else {
    while (is_digit(*p)) sum = sum * 10 + static_cast<uint64_t>(*p++ - '0');
  }
  *value = static_cast<int64_t>(sum);
  return p;
}

// Whether `token` is an int64 written the one way that maps back to the same text.
inline bool canonical_integer(std::string_view token, int64_t* value) {
  const size_t sign = !token.empty() && token[0] == '-' ? 1 : 0;
  const size_t digits = token.size() - sign;
  if (digits < 1 || digits > 19) return false;
  if (token[sign] == '0' && (digits > 1 || sign == 1)) return false;
  const char* end = token.data() + token.size();
  const auto result = std::from_chars(token.data(), end, *value);
  return result.ec == std::errc() && result.ptr == end;
}

enum class Number { kInteger, kFloat, kEmpty, kNotANumber, kNotFinite, kNotATime, kOutOfRange };

inline bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] | 0x20) != lower[i]) return false;
  }
  return true;
}

// [0-9]+\.?[0-9]* or \.[0-9]+, then an optional exponent.
inline bool is_decimal(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t from = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - from;
  };
  const size_t whole = digits();
  size_t fraction = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    fraction = digits();
  }
  if (whole + fraction == 0) return false;
  if (at < text.size() && (text[at] | 0x20) == 'e') {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

// A decimal (checked by the caller) without a leading plus, correctly rounded.
inline double to_double(std::string_view text) {
  double value = 0;
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc()) return value;
  return std::strtod(std::string(text).c_str(), nullptr);  // too large or too small
#else
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  stream >> value;
  if (stream.fail() && std::fabs(value) > 1) return HUGE_VAL;
  return value;
#endif
}

// A time or a rating: an integer where it is written as one and fits int64, else a float.
inline Number parse_number(std::string_view token, int64_t* integer, double* real) {
  if (token.empty()) return Number::kEmpty;
  if (token.size() > kMaxIdBytes) return Number::kNotANumber;
  const bool sign = token[0] == '+' || token[0] == '-';
  const std::string_view magnitude = token.substr(sign ? 1 : 0);
  const std::string_view text = token[0] == '+' ? magnitude : token;
  const bool digits =
      !magnitude.empty() && magnitude.find_first_not_of("0123456789") == std::string_view::npos;
  if (digits) {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), *integer);
    if (result.ec == std::errc()) return Number::kInteger;
  } else if (equals_ignoring_case(magnitude, "nan") || equals_ignoring_case(magnitude, "inf") ||
             equals_ignoring_case(magnitude, "infinity")) {
    return Number::kNotFinite;
  } else if (!is_decimal(magnitude)) {
    return Number::kNotANumber;
  }
  const double value = to_double(text);
  if (!std::isfinite(value)) return Number::kNotFinite;
  *real = value + 0.0;  // -0.0 becomes 0.0
  return Number::kFloat;
}

// Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, surrogates or values past 10FFFF.
inline bool valid_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  size_t at = 0;
  while (at < text.size()) {
    const unsigned char lead = byte(at);
    if (lead < 0x80) {
      ++at;
      continue;
    }
    size_t more;
    unsigned char low = 0x80, high = 0xBF;  // range of the second byte
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return false;
    }
    if (text.size() - at <= more) return false;
    if (byte(at + 1) < low || byte(at + 1) > high) return false;
    for (size_t k = 2; k <= more; ++k) {
      if ((byte(at + k) & 0xC0) != 0x80) return false;
    }
    at += more + 1;
  }
  return true;
}

}  // namespace mclrec::reader
