// Value checks for lists of items, one list per row, stored as items and ascending offsets. Shared
// by the ranking ops; each reads its integers once.
#pragma once

#include "checks.h"

namespace mclrec {

// Every offset in 0 .. K and ascending, every listed item in 0 .. classes - 1.
inline void check_item_lists(const char* op, const char* name, const Tensor& items,
                             const Tensor& offsets, int64_t batch, int64_t classes) {
  const std::string offsets_name = std::string(name) + "_offsets";
  check_tensor(op, name, items, ScalarType::Int, {-1});
  check_tensor(op, offsets_name.c_str(), offsets, ScalarType::Long, {batch + 1});
  check(items.is_contiguous() && offsets.is_contiguous(), op, ": ", name, " must be contiguous");
  const int64_t* offset = read_pointer<int64_t>(offsets);
  for (int64_t row = 0; row < batch; ++row) {
    check(offset[row] <= offset[row + 1], op, ": ", offsets_name, " must ascend, but entry ",
          row + 1, " is ", offset[row + 1], " after ", offset[row]);
  }
  check(offset[0] >= 0 && offset[batch] <= items.size(0), op, ": ", offsets_name, " run from ",
        offset[0], " to ", offset[batch], ", but ", name, " has ", items.size(0), " entries");
  const int32_t* item = read_pointer<int32_t>(items);
  for (int64_t i = offset[0]; i < offset[batch]; ++i) {
    check(item[i] >= 0 && item[i] < classes, op, ": ", name, "[", i, "] is ", item[i],
          "; the item table has rows 0 .. ", classes - 1);
  }
}

// h [B, D] and item_embedding [V, D], one floating dtype, V and D at least 1.
inline void check_scoring(const char* op, const Tensor& h, const Tensor& item_embedding) {
  check_floating(op, "h", h);
  check_tensor(op, "h", h, h.scalar_type(), {-1, -1});
  check_tensor(op, "item_embedding", item_embedding, h.scalar_type(), {-1, h.size(1)});
  check(h.is_contiguous() && item_embedding.is_contiguous(), op,
        ": h and item_embedding must be contiguous");
  check(h.size(1) > 0 && item_embedding.size(0) > 0, op, ": item_embedding must not be empty, got ",
        shape_text(item_embedding));
}

}  // namespace mclrec
