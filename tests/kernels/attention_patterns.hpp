// Patterns of attention that tests draw at random.
#pragma once

#include <algorithm>

#include "tests/kernels/attention_problem.hpp"

namespace filigree {

struct PatternCase {
  AttentionShape shape;
  std::int64_t query_block = 0, key_block = 0;  // 0: no lists
  double density = 0;                           // share of blocks listed at random
  bool bias = false;
  std::int64_t window = 0, sinks = 0;
  std::vector<std::int32_t> documents = {};  // lengths, the same in every sequence
};

inline std::string describe(const PatternCase& c) {
  return str(describe(c.shape), ", groups of ", c.query_block, ", blocks of ", c.key_block,
             ", density ", c.density, c.bias ? ", bias" : "", ", window ", c.window, ", sinks ",
             c.sinks, ", documents ", c.documents.size());
}

// Random lists, some of them into the future, with columns that every group reads, groups with one
// block and groups with none.
inline BlockLists random_lists(const PatternCase& c) {
  const std::int64_t rows = c.shape.batch * c.shape.query_heads;
  const std::int64_t groups = query_groups(c.shape, c.query_block);
  const std::int64_t blocks = key_blocks(c.shape, c.key_block);
  const std::int64_t slots = blocks + 1;  // a capacity that is never full
  const auto filled = [](const Shape& shape, std::int32_t value) {
    const Tensor tensor = Tensor::empty(shape, DType::i32);
    std::fill_n(tensor.data<std::int32_t>(), tensor.numel(), value);
    return tensor;
  };
  const std::int64_t b = c.shape.batch, h = c.shape.query_heads;
  const BlockLists lists{filled({b, h, groups}, 0),
                         filled({b, h, groups, slots}, -1),
                         filled({b, h, blocks}, 0),
                         filled({b, h, blocks, groups}, -1),
                         c.query_block,
                         c.key_block};
  const Philox random(3, RandomPurpose::test, 9);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t n = 0; n < groups; ++n) {
      for (std::int64_t m = 0; m < blocks; ++m) {
        const bool heavy = m == 0 || m == blocks / 3;
        const bool drawn = random.uniform((row * groups + n) * blocks + m) < c.density;
        const bool listed = n % 7 == 5   ? false
                            : n % 7 == 3 ? m == (n * 5) % blocks
                                         : heavy || drawn;
        if (!listed) continue;
        const std::int64_t list = row * groups + n, column = row * blocks + m;
        std::int32_t& count = lists.counts_BHN.data<std::int32_t>()[list];
        lists.indices_BHNJ.data<std::int32_t>()[list * slots + count++] = std::int32_t(m);
        std::int32_t& readers = lists.transposed_counts_BHM.data<std::int32_t>()[column];
        lists.transposed_indices_BHMN.data<std::int32_t>()[column * groups + readers++] =
            std::int32_t(n);
      }
    }
  }
  return lists;
}

inline AttentionPattern pattern_of(const PatternCase& c) {
  AttentionPattern pattern;
  pattern.window = c.window, pattern.sinks = c.sinks;
  if (c.query_block > 0) pattern.lists = random_lists(c);
  if (c.bias) pattern.bias_BHNJ = random_tensor(pattern.lists.indices_BHNJ.shape(), DType::f64, 6);
  if (c.documents.empty()) return pattern;
  pattern.document_begin_T = Tensor::empty({c.shape.batch * c.shape.key_length}, DType::i32);
  pattern.document_end_T = Tensor::empty({c.shape.batch * c.shape.key_length}, DType::i32);
  for (std::int64_t b = 0; b < c.shape.batch; ++b) {
    std::int32_t begin = 0;
    for (const std::int32_t length : c.documents) {
      for (std::int32_t p = begin; p < begin + length; ++p) {
        pattern.document_begin_T.data<std::int32_t>()[b * c.shape.key_length + p] = begin;
        pattern.document_end_T.data<std::int32_t>()[b * c.shape.key_length + p] = begin + length;
      }
      begin += length;
    }
  }
  return pattern;
}

}  // namespace filigree
