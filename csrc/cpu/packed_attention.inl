// The tasks of packed_attention: one head of a run of sequences each, so that they write apart from
// each other and their sums do not depend on the threads. Rows that are not whole vectors are
// copied into padded ones.
// Compiled once per instruction set: see isa/each_set.inl.
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "dropout_bits.inl"
#include "attention_head.inl"
// clang-format on

constexpr int64_t kTaskWork = 2048;  // score pairs of a task, at least

struct AttentionTasks {
  std::vector<int64_t> first;  // sequences; task t has [first[t], first[t + 1])
  int64_t longest = 0;

  AttentionTasks(const int32_t* offsets, int64_t sequences) : first{0} {
    int64_t work = 0;
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t n = offsets[s + 1] - offsets[s];
      longest = std::max(longest, n);
      work += n * (n + 8);
      if (work >= kTaskWork || s + 1 == sequences) {
        first.push_back(s + 1);
        work = 0;
      }
    }
  }
  int64_t count() const { return static_cast<int64_t>(first.size()) - 1; }
};

template <class T>
struct AttentionScratch {
  T* head;         // attention_scratch_size
  uint32_t* bits;  // of one head
  T* rows[7];      // [longest][padded size], where rows must be padded

  AttentionScratch(const PackedAttention<T>& attention, int64_t longest, Scratch& memory) {
    const int64_t size = round_up(attention.size, kLanes<T>);
    head = memory.take<T>(attention_scratch_size<T>(longest, size));
    bits = memory.take<uint32_t>(attention.dropout.active() ? attention_bits_words(longest, 1) : 0);
    for (T*& row : rows) row = memory.take<T>(size == attention.size ? 0 : longest * size);
  }
};

// Copies rows of one head, [n][size] `stride` apart, to rows of whole vectors, or back.
template <class T>
void pad_rows(const T* from, int64_t n, int64_t size, int64_t stride, int64_t padded_size, T* to) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t e = 0; e < padded_size; ++e) {
      to[i * padded_size + e] = e < size ? from[i * stride + e] : T(0);
    }
  }
}
template <class T>
void unpad_rows(const T* from, int64_t n, int64_t size, int64_t stride, int64_t padded_size,
                T* to) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t e = 0; e < size; ++e) to[i * stride + e] = from[i * padded_size + e];
  }
}

// One head of one sequence at its place in the arrays, or in padded copies of it.
template <class T>
class HeadPlace {
 public:
  HeadPlace(const PackedAttention<T>& attention, int64_t sequence, int64_t h,
            const AttentionScratch<T>& scratch)
      : scratch_(scratch),
        size_(attention.size),
        stride_(attention.heads * attention.size),
        at_(attention.offsets[sequence] * stride_ + h * attention.size) {
    const int64_t first = attention.offsets[sequence];
    head.tokens = attention.offsets[sequence + 1] - first;
    head.size = round_up(size_, kLanes<T>);
    head.stride = copied() ? head.size : stride_;
    head.query = input(attention.query, 0);
    head.key = input(attention.key, 1);
    head.value = input(attention.value, 2);
    head.scale = T(1) / std::sqrt(static_cast<T>(size_));
    head.visible = attention.visible == nullptr ? nullptr : attention.visible + first;
    head.keep = nullptr;
    head.keep_words = ceil_div(head.tokens, 32);
    head.keep_scale = attention.dropout.template scale<T>();
    if (!attention.dropout.active()) return;
    KeepBits bits(attention.dropout,
                  philox_stream(kStreamDropout, attention.layer, kSiteAttention));
    head.keep =
        attention_head_bits(attention.dropout, bits, sequence, head.tokens, h, h + 1, scratch.bits);
    bits.flush();
  }

  // The head's rows of an array; `number` is the copy they are padded in, where they must be.
  const T* input(const T* array, int number) const {
    if (!copied()) return array + at_;
    pad_rows(array + at_, head.tokens, size_, stride_, head.size, scratch_.rows[number]);
    return scratch_.rows[number];
  }
  // Where the head's rows are to be written; finish() brings them home.
  T* output(T* array, int number) const { return copied() ? scratch_.rows[number] : array + at_; }
  void finish(T* array, int number) const {
    if (!copied()) return;
    unpad_rows(scratch_.rows[number], head.tokens, size_, stride_, head.size, array + at_);
  }

  AttentionHead<T> head;

 private:
  bool copied() const { return head.size != size_; }

  const AttentionScratch<T>& scratch_;
  int64_t size_;
  int64_t stride_;  // between tokens in the arrays
  int64_t at_;      // first element in the arrays
};

// visit(place, scratch) for every head of every sequence that has tokens, in parallel.
template <class T, class Visit>
void each_head(const PackedAttention<T>& attention, const Visit& visit) {
  const AttentionTasks tasks(attention.offsets, attention.sequences);
  Scratch memory;
  std::vector<AttentionScratch<T>> scratch;
  for (int w = 0; w < worker_count(); ++w) scratch.emplace_back(attention, tasks.longest, memory);
  parallel_tasks(tasks.count() * attention.heads, [&](int64_t task, int worker) {
    const int64_t run = task / attention.heads;
    for (int64_t s = tasks.first[run]; s < tasks.first[run + 1]; ++s) {
      if (attention.offsets[s + 1] == attention.offsets[s]) continue;
      visit(HeadPlace<T>(attention, s, task % attention.heads, scratch[worker]), scratch[worker]);
    }
  });
}

// Zero for the tokens behind the last sequence.
template <class T>
void clear_spare(const PackedAttention<T>& attention, T* array) {
  const int64_t row = attention.heads * attention.size;
  const int64_t used = attention.offsets[attention.sequences];
  std::fill_n(array + used * row, (attention.capacity - used) * row, T(0));
}

template <class T>
void forward(const PackedAttention<T>& attention, T* context) {
  clear_spare(attention, context);
  each_head(attention, [&](const HeadPlace<T>& place, const AttentionScratch<T>& scratch) {
    attention_head_forward(place.head, place.output(context, 3), place.head.stride, scratch.head);
    place.finish(context, 3);
  });
}

template <class T>
void backward(const PackedAttention<T>& attention, const T* grad_context, T* grad_query,
              T* grad_key, T* grad_value) {
  for (T* array : {grad_query, grad_key, grad_value}) clear_spare(attention, array);
  each_head(attention, [&](const HeadPlace<T>& place, const AttentionScratch<T>& scratch) {
    AttentionHeadGradients<T> g;
    g.grad_context = place.input(grad_context, 3);
    g.context = nullptr;
    g.context_stride = place.head.stride;
    g.grad_query = place.output(grad_query, 4);
    g.grad_key = place.output(grad_key, 5);
    g.grad_value = place.output(grad_value, 6);
    g.stride = place.head.stride;
    attention_head_backward(place.head, g, scratch.head);
    place.finish(grad_query, 4);
    place.finish(grad_key, 5);
    place.finish(grad_value, 6);
  });
}
