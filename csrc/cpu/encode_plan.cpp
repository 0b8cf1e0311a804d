// The cut of a packed batch and the layout of `saved` (see encode_plan.h).
#include "encode_plan.h"

#include <algorithm>

#include "isa.h"

namespace mclrec {

EncodeLayout::EncodeLayout(const EncodeSizes& sizes, int64_t padding)
    : padding(padding),
      hidden(sizes.hidden),
      inner(sizes.inner),
      heads(sizes.heads),
      layers(sizes.layers),
      head(sizes.hidden / sizes.heads),
      head_row(padded(head, padding / 2)),
      attention(heads * head_row),
      hidden_row(padded(hidden, padding)),
      inner_row(padded(inner, padding)),
      attention_row(padded(attention, padding)),
      absorbed_row(heads * hidden_row),
      mask_row(ceil_div(hidden_row, 32)) {}

SavedLayout::SavedLayout(const EncodeLayout& layout, int64_t capacity, int64_t sequences)
    : layout_(layout),
      tokens_(padded(capacity, layout.padding)),
      sequences_(padded(sequences, layout.padding)) {
  embedding_ = take_norm(true);
  last_.probabilities = take(true, layout.heads);
  last_.query = take(false, layout.attention_row);
  last_.absorbed = take(false, layout.absorbed_row);
  last_.mixed = take(false, layout.absorbed_row);
  last_.kept = take(false, layout.heads);
  last_.context = take(false, layout.attention_row);
  last_.rows = take_layer(false);
  const int64_t start = size_;
  first_ = take_layer(true);
  layer_size_ = size_ - start;
  // The size tells layouts apart: what one instruction set kept is not read as another's.
  end_ = start + (layout.layers - 1) * layer_size_;
  size_ = end_ + layout.padding;
}

int64_t SavedLayout::take(bool of_tokens, int64_t columns, bool is_mask) {
  arrays_.push_back({size_, columns, of_tokens, is_mask});
  size_ += rows(of_tokens) * columns;
  return arrays_.back().offset;
}

int64_t SavedLayout::take_panels(bool of_tokens, int64_t columns) {
  const int64_t start = size_;
  const int64_t padding = layout_.padding;
  for (int64_t column = 0; column < columns; column += padding) take(of_tokens, padding);
  return start;
}

SavedNorm SavedLayout::take_norm(bool of_tokens) {
  SavedNorm norm;
  norm.xhat = take(of_tokens, layout_.hidden_row);
  norm.inverse = take(of_tokens, 1);
  norm.mask = take(of_tokens, layout_.mask_row, true);
  return norm;
}

SavedLayer SavedLayout::take_layer(bool of_tokens) {
  SavedLayer layer;
  layer.qkv = of_tokens ? take(true, 3 * layout_.attention_row) : size_;
  layer.attention = take_norm(of_tokens);
  layer.activated = take_panels(of_tokens, layout_.inner_row);
  layer.slope = take_panels(of_tokens, layout_.inner_row);
  layer.feed_forward = take_norm(of_tokens);
  return layer;
}

SavedLayer SavedLayout::layer(int64_t number) const {
  const int64_t shift = number * layer_size_;
  const auto moved = [&](const SavedNorm& norm) {
    return SavedNorm{norm.xhat + shift, norm.inverse + shift, norm.mask + shift};
  };
  return {first_.qkv + shift, moved(first_.attention), first_.activated + shift,
          first_.slope + shift, moved(first_.feed_forward)};
}

int64_t encode_saved_size(const EncodeSizes& sizes) {
  const EncodeLayout layout(sizes, isa_facts(selected_isa()).padding);
  return SavedLayout(layout, sizes.capacity, sizes.sequences).size();
}

void EncodePlan::make(const int32_t* offsets, int64_t sequences) {
  const int64_t work = (sequences > 0 ? offsets[sequences] : 0) + sequences;
  // No chunk is empty (unless there are no rows at all).
  const int64_t most = std::clamp<int64_t>(sequences, 1, kMostChunks);
  // Three or more become a multiple of four, so that two, four or eight threads end together.
  int64_t chunks = (work + kChunkWork / 2) / kChunkWork;
  if (chunks > 2) chunks = (chunks + 2) / 4 * 4;
  chunks = std::clamp<int64_t>(chunks, 1, most);
  longest_ = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    longest_ = std::max<int64_t>(longest_, offsets[s + 1] - offsets[s]);
  }
  // Counting sort by length, stable; then dealt to the chunks back and forth, which keeps both
  // their tokens and their rows equal.
  first_.assign(static_cast<size_t>(longest_) + 2, 0);
  for (int64_t s = 0; s < sequences; ++s) ++first_[offsets[s + 1] - offsets[s] + 1];
  for (int64_t n = 1; n <= longest_ + 1; ++n) first_[n] += first_[n - 1];
  sorted_.resize(static_cast<size_t>(sequences));
  for (int64_t s = 0; s < sequences; ++s) {
    sorted_[first_[offsets[s + 1] - offsets[s]]++] = static_cast<int32_t>(s);
  }
  order_.resize(static_cast<size_t>(sequences));
  chunk_rows_.assign(1, 0);
  int64_t row = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    for (int64_t deal = 0; deal * chunks < sequences; ++deal) {
      const int64_t place = deal * chunks + (deal % 2 == 0 ? c : chunks - 1 - c);
      if (place < sequences) order_[row++] = sorted_[place];
    }
    chunk_rows_.push_back(row);
  }
  first_.assign(static_cast<size_t>(sequences) + 1, 0);
  for (row = 0; row < sequences; ++row) {
    first_[row + 1] = first_[row] + offsets[order_[row] + 1] - offsets[order_[row]];
  }
  most_chunk_tokens_ = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    most_chunk_tokens_ = std::max(most_chunk_tokens_, chunk(c).tokens);
  }
}

EncodeBlock EncodePlan::block(int64_t begin, int64_t end) const {
  int64_t row = begin + 1;
  while (row < end && first_[row + 1] - first_[begin] <= kBlockTokens) ++row;
  return span(begin, row);
}

}  // namespace mclrec
