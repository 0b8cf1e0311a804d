// Checks that target_rank and top_k share. Lists of items, one list a row, are stored as items and
// ascending offsets.
#pragma once

#include <string>

#include "checks.h"

namespace mclrec {

// h [B, D] and item_embedding [V, D], one floating dtype, V and D at least 1.
inline void check_scoring(const Checker& check, const Tensor& h, const Tensor& item_embedding) {
  check.floating("h", h, {-1, -1});
  check.tensor("item_embedding", item_embedding, h.scalar_type(), {-1, h.size(1)});
  check.require(h.size(1) > 0 && item_embedding.size(0) > 0,
                "item_embedding must not be empty, got ", ShapeText(item_embedding));
  check.rows({h.size(0), item_embedding.size(0)});
}

// items int32 [K], offsets int64 [batch + 1].
inline void check_item_lists(const Checker& check, const std::string& name, const Tensor& items,
                             const Tensor& offsets, int64_t batch) {
  check.tensor(name, items, ScalarType::Int, {-1});
  check.tensor(name + "_offsets", offsets, ScalarType::Long, {batch + 1});
}

// Every offset in 0 .. K and ascending, every listed item in 0 .. classes - 1; dense tensors.
inline void check_item_list_values(const Checker& check, const char* name, const Tensor& items,
                                   const Tensor& offsets, int64_t classes) {
  const int64_t batch = offsets.size(0) - 1;
  const int64_t* offset = read_pointer<int64_t>(offsets);
  for (int64_t row = 0; row < batch; ++row) {
    check.require(offset[row] <= offset[row + 1], name, "_offsets must ascend, but entry ", row + 1,
                  " is ", offset[row + 1], " after ", offset[row]);
  }
  check.require(offset[0] >= 0 && offset[batch] <= items.size(0), name, "_offsets run from ",
                offset[0], " to ", offset[batch], ", but ", name, " has ", items.size(0),
                " entries");
  const int32_t* item = read_pointer<int32_t>(items);
  for (int64_t i = offset[0]; i < offset[batch]; ++i) {
    check.require(item[i] >= 0 && item[i] < classes, name, "[", i, "] is ", item[i],
                  "; the item table has rows 0 .. ", classes - 1);
  }
}

// Candidates ascend within 1 .. classes - 1; a dense tensor. Nearly a catalogue of them may come
// with every request, so that all are compared before the one at fault is looked for.
inline void check_candidate_values(const Checker& check, const Tensor& candidates,
                                   int64_t classes) {
  const int32_t* item = read_pointer<int32_t>(candidates);
  const int64_t count = candidates.size(0);
  int32_t descents = count > 0 && (item[0] < 1 || item[count - 1] >= classes);
  for (int64_t i = 1; i < count; ++i) descents |= item[i] <= item[i - 1];
  for (int64_t i = 0; descents != 0 && i < count; ++i) {
    check.require(item[i] > (i ? item[i - 1] : 0) && item[i] < classes,
                  "candidates must ascend in 1 .. ", classes - 1, ", but entry ", i, " is ",
                  item[i]);
  }
}

}  // namespace mclrec
