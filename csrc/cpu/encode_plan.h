// How a packed batch is cut for the encoder's kernels: rows sorted by length and dealt into chunks
// of equal work, chunks into blocks of whole rows. The cut depends on the lengths alone, never on
// the number of threads, so that sums over a chunk are always the same sums.
// Also the padded sizes and where each array lies in `saved`. Not compiled per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "../shared/rounding.h"
#include "encode_cpu.h"

namespace mclrec {

// Tokens of a block: its activations (about 1.5 KB a token) share L2 with a layer's weights.
constexpr int64_t kBlockTokens = 96;
// Work (tokens + rows) of a chunk, and the most chunks there are: each has its own copy of the
// weight gradients to add up.
constexpr int64_t kChunkWork = 640;
constexpr int64_t kMostChunks = 64;
// Columns of the inner layer that are computed, used and forgotten together. What is kept of it
// lies in panels of `padding` columns, so that a block's rows of a panel are one piece of memory.
constexpr int64_t kInnerColumns = 64;

inline int64_t padded(int64_t n, int64_t multiple) { return round_up(n, multiple); }

// The padded sizes. Rows and columns of matrices are padded to whole register tiles of the
// instruction set, a head's columns to half of that, which is whole vectors.
struct EncodeLayout {
  EncodeLayout(const EncodeSizes& sizes, int64_t padding);

  int64_t padding;        // of the set
  int64_t hidden;         // D
  int64_t inner;          // F
  int64_t heads;          // H
  int64_t layers;         // K + 1
  int64_t head;           // d = D / H
  int64_t head_row;       // d, padded to whole vectors
  int64_t attention;      // H head_row: used columns of a query, key, value or context row
  int64_t hidden_row;     // D, padded
  int64_t inner_row;      // F, padded
  int64_t attention_row;  // H head_row, padded
  int64_t absorbed_row;   // H hidden_row: the absorbed queries of all heads
  int64_t mask_row;       // elements that hold D dropout bits
};

// What one norm keeps: [rows][hidden_row], [rows], and dropout bits [rows][mask_row].
struct SavedNorm {
  int64_t xhat;
  int64_t inverse;
  int64_t mask;
};

// Offsets into `saved`. Token arrays are in plan order (see EncodePlan).
struct SavedLayer {
  int64_t qkv;  // [T][3 attention_row]
  SavedNorm attention;
  int64_t activated;  // [inner_row / padding][T][padding], the inner layer behind GELU
  int64_t slope;      // the same, GELU' there
  SavedNorm feed_forward;
};
struct SavedLast {
  int64_t probabilities;  // [T][H], negative where dropped
  int64_t query;          // [S][attention_row]
  int64_t absorbed;       // [S][absorbed_row]
  int64_t mixed;          // [S][absorbed_row], sum of p x
  int64_t kept;           // [S][H], sum of p
  int64_t context;        // [S][attention_row]
  SavedLayer rows;        // its qkv is not used
};

class SavedLayout {
 public:
  // One array: [rows of tokens or of sequences][columns].
  struct Array {
    int64_t offset;
    int64_t columns;
    bool of_tokens;
    bool is_mask;
  };

  SavedLayout(const EncodeLayout& layout, int64_t capacity, int64_t sequences);

  SavedNorm embedding() const { return embedding_; }
  SavedLayer layer(int64_t number) const;  // a full layer
  SavedLast last() const { return last_; }
  int64_t size() const { return size_; }
  int64_t end() const { return end_; }  // of the arrays
  // All of them, without those of full layers beyond the first; these lie layer_size() apart.
  const std::vector<Array>& arrays() const { return arrays_; }
  int64_t layer_size() const { return layer_size_; }
  int64_t first_layer() const { return first_.qkv; }
  // Rows an array has room for.
  int64_t rows(bool of_tokens) const { return of_tokens ? tokens_ : sequences_; }

 private:
  int64_t take(bool of_tokens, int64_t columns, bool is_mask = false);
  int64_t take_panels(bool of_tokens, int64_t columns);
  SavedNorm take_norm(bool of_tokens);
  SavedLayer take_layer(bool of_tokens);

  EncodeLayout layout_;
  int64_t tokens_;
  int64_t sequences_;
  int64_t size_ = 0;
  int64_t end_ = 0;
  std::vector<Array> arrays_;
  SavedNorm embedding_;
  SavedLayer first_;
  int64_t layer_size_ = 0;
  SavedLast last_;
};

// Rows [begin, end) of the plan, tokens [first_token, first_token + tokens) of the plan.
struct EncodeBlock {
  int64_t begin, end;
  int64_t first_token;
  int64_t tokens;
};

class EncodePlan {
 public:
  // Sorts and deals; keeps its memory for the next call.
  void make(const int32_t* offsets, int64_t sequences);

  int64_t chunks() const { return static_cast<int64_t>(chunk_rows_.size()) - 1; }
  EncodeBlock chunk(int64_t c) const { return span(chunk_rows_[c], chunk_rows_[c + 1]); }
  // The next block of a chunk from row `begin` on: whole rows, at most kBlockTokens tokens unless
  // one row alone is longer.
  EncodeBlock block(int64_t begin, int64_t end) const;
  EncodeBlock span(int64_t begin, int64_t end) const {
    return {begin, end, first_[begin], first_[end] - first_[begin]};
  }

  int64_t sequence(int64_t row) const { return order_[row]; }  // row of the batch as passed in
  int64_t first(int64_t row) const { return first_[row]; }     // first token, in plan order
  int64_t length(int64_t row) const { return first_[row + 1] - first_[row]; }
  int64_t longest() const { return longest_; }
  int64_t most_chunk_tokens() const { return most_chunk_tokens_; }
  int64_t most_block_tokens() const { return longest_ > kBlockTokens ? longest_ : kBlockTokens; }

 private:
  std::vector<int32_t> order_;       // [S]
  std::vector<int64_t> first_;       // [S + 1]
  std::vector<int64_t> chunk_rows_;  // [chunks + 1]
  std::vector<int32_t> sorted_;
  int64_t longest_ = 0;
  int64_t most_chunk_tokens_ = 0;
};

}  // namespace mclrec
