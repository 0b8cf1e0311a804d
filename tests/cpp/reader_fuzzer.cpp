// libFuzzer on the log reader: any bytes under any layout, in blocks of two sizes, give one answer.
// Built and run by `python -m tests.reliability`, with AddressSanitizer and UBSan, where clang is.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../../csrc/reader/read_file.h"

namespace reader = mclrec::reader;

namespace {

reader::Log read(std::string_view content, const reader::Layout& layout, size_t block,
                 size_t pulled) {
  const reader::Pull pull = [&content, pulled] {
    const std::string_view next = content.substr(0, pulled);
    content.remove_prefix(next.size());
    return next;
  };
  reader::Effort effort;
  effort.block_bytes = block;
  return reader::read_stream(pull, 1, layout, effort);
}

void require(bool same) {
  if (!same) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kHead = 4;
  if (size < kHead) return 0;
  static const char* const kDelimiters[] = {",", "\t", ";", "::", " ", "|"};
  reader::Layout layout;
  layout.table = (data[0] & 1) != 0;
  layout.quotes = (data[0] & 2) != 0;
  layout.time_is_iso = (data[0] & 4) != 0;
  layout.then_is_iso = (data[0] & 8) != 0;
  layout.delimiter = kDelimiters[data[1] % 6];
  layout.columns = 2 + data[2] % 4;
  // Parts in turn, from any column on: all different, as the reader's callers see to.
  int* const parts[] = {&layout.user, &layout.item, &layout.time, &layout.rating, &layout.then};
  for (int i = 0; i < 5; ++i) {
    *parts[i] = i < layout.columns ? (i + data[2] / 4) % layout.columns : -1;
  }
  if (!layout.table) layout.time = layout.rating = layout.then = -1;
  const std::string_view content(reinterpret_cast<const char*>(data) + kHead, size - kHead);
  const reader::Log whole = read(content, layout, 1 << 16, content.size() + 1);
  const reader::Log parted = read(content, layout, 1 + data[3] % 64, 1 + data[3] / 4);
  require(whole.n_problems == parted.n_problems);
  require(whole.problems.size() == parted.problems.size());
  if (whole.n_problems != 0) return 0;
  require(whole.users.size() == parted.users.size());
  require(whole.user_ids.size() == parted.user_ids.size());
  require(whole.item_ids.size() == parted.item_ids.size());
  return 0;
}
