#include "kernels/attention/pair_count.hpp"

#include <gtest/gtest.h>

#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct CountCase {
  std::int64_t query_length, key_length, query_offset, query_block, key_block;  // 0: no lists
  std::int64_t window, sinks;
  bool causal, packed;
};

const std::vector<CountCase> kCountCases = {
    {70, 70, 0, 0, 0, 0, 0, true, false},    {70, 70, 0, 0, 0, 9, 3, true, false},
    {70, 70, 0, 16, 16, 0, 0, true, false},  {70, 70, 0, 1, 16, 20, 2, true, false},
    {70, 70, 0, 32, 16, 0, 5, false, false}, {7, 70, 63, 16, 16, 4, 0, true, false},
    {70, 70, 0, 16, 32, 12, 2, true, true},  {70, 70, 0, 64, 16, 12, 2, false, true},
    {0, 70, 0, 16, 16, 0, 0, true, false},
};
constexpr std::int64_t kSequences = 2, kHeads = 3;

// Every third block of every group, shifted by list.
BlockLists some_lists(const CountCase& c, const AttentionShape& shape, TensorSource& source) {
  const std::int64_t groups = query_groups(shape, c.query_block);
  const std::int64_t blocks = key_blocks(shape, c.key_block), lists = kSequences * kHeads * groups;
  std::vector<std::int32_t> counts, indices;
  for (std::int64_t list = 0; list < lists; ++list) {
    const std::size_t begin = indices.size();
    for (std::int64_t m = list % 3; m < blocks; m += 3)
      indices.push_back(static_cast<std::int32_t>(m));
    counts.push_back(static_cast<std::int32_t>(indices.size() - begin));
    indices.resize(begin + static_cast<std::size_t>(blocks), -1);
  }
  BlockLists result;
  result.counts_BHN = source.integers(counts).view({kSequences, kHeads, groups});
  result.indices_BHNJ = source.integers(indices).view({kSequences, kHeads, groups, blocks});
  // Sizes only: nobody transposes to count.
  result.transposed_counts_BHM = source.unchecked({kSequences, kHeads, blocks}, DType::i32);
  result.query_block = c.query_block;
  result.key_block = c.key_block;
  return result;
}

TEST(CountPairs, AgreesWithTheHost) {
  for (const CountCase& c : kCountCases) {
    SCOPED_TRACE(str(c.query_length, " queries, groups of ", c.query_block, ", window ", c.window,
                     ", causal ", c.causal, ", packed ", c.packed));
    expect_reference_bits<CountPairs>(
        [&](TensorSource& source) {
          CountPairs::Arguments a;
          a.shape = {.batch = kSequences,
                     .query_length = c.query_length,
                     .key_length = c.key_length,
                     .query_heads = kHeads,
                     .kv_heads = 1,
                     .head_dim = 16,
                     .query_offset = c.query_offset,
                     .causal = c.causal,
                     .scale = 1.0};
          a.pattern.window = c.window;
          a.pattern.sinks = c.sinks;
          if (c.query_block > 0) a.pattern.lists = some_lists(c, a.shape, source);
          if (c.packed) {
            std::vector<std::int32_t> begin, end;
            for (std::int64_t i = 0; i < kSequences * c.key_length; ++i) {
              const bool second = i % c.key_length >= 41;
              begin.push_back(second ? 41 : 0);
              end.push_back(static_cast<std::int32_t>(second ? c.key_length : 41));
            }
            a.pattern.document_begin_T = source.integers(begin);
            a.pattern.document_end_T = source.integers(end);
          }
          a.pairs = source.output("pairs", {2}, DType::i64);
          return a;
        },
        {DType::f32});
  }
}

}  // namespace
}  // namespace filigree::testing
