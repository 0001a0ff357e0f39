#include <gtest/gtest.h>

#include "kernels/gate/pooling.hpp"
#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct Case {
  std::int64_t batch, length, block, columns;
  std::int64_t blocks() const { return batch * ((length + block - 1) / block); }
};
// Short last blocks, one token, none, columns around the 64 that are summed at once.
const std::vector<Case> kCases = {{1, 0, 16, 4},  {2, 1, 16, 3},   {2, 33, 16, 65},
                                  {1, 64, 1, 64}, {3, 100, 64, 9}, {2, 257, 128, 96}};

ExecutionContext context_for(const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  return context;
}

TEST(BlockMeanKeys, MatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(str("length ", c.length, " block ", c.block, " columns ", c.columns));
    expect_parity<BlockMeanKeys>([&](TensorSource& source) {
      return BlockMeanKeys::Arguments{c.batch, c.block,
                                      source.input({c.batch * c.length, c.columns}),
                                      source.output("kbar", {c.blocks(), c.columns})};
    });
    expect_parity<BlockMeanKeysBackward>([&](TensorSource& source) {
      return BlockMeanKeysBackward::Arguments{c.batch, c.block,
                                              source.input({c.blocks(), c.columns}),
                                              source.output("dk", {c.batch * c.length, c.columns})};
    });
  }
}

TEST(GroupQueries, MatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(str("length ", c.length, " block ", c.block, " columns ", c.columns));
    expect_parity<GroupQueries>([&](TensorSource& source) {
      return GroupQueries::Arguments{c.batch, c.block,
                                     source.input({c.batch * c.length, c.columns}),
                                     source.output("qg", {c.blocks(), c.columns})};
    });
    expect_parity<GroupQueriesBackward>([&](TensorSource& source) {
      return GroupQueriesBackward::Arguments{c.batch, c.block,
                                             source.input({c.blocks(), c.columns}),
                                             source.output("dq", {c.batch * c.length, c.columns})};
    });
  }
}

// Documents of the first token end inside groups, at their edges and with the sequence.
Tensor documents_of(const Case& c, const std::vector<std::int32_t>& begins) {
  const Tensor documents = Tensor::zeros({c.batch * c.length}, DType::i32);
  for (std::int64_t t = 0; t < documents.numel(); ++t)
    for (const std::int32_t begin : begins)
      if (t % c.length >= begin) documents.data<std::int32_t>()[t] = begin;
  return documents;
}

TEST(GroupMeanQueries, MatchesTheReference) {
  for (const Case& c : kCases)
    for (const bool packed : {false, true}) {
      SCOPED_TRACE(str("length ", c.length, " block ", c.block, " columns ", c.columns, packed));
      const Tensor documents = packed ? documents_of(c, {0, 5, 32, 60, 61}) : Tensor();
      expect_parity<GroupMeanQueries>([&](TensorSource& source) {
        return GroupMeanQueries::Arguments{
            c.batch, c.block, source.input({c.batch * c.length, c.columns}),
            source.given(documents), source.output("qg", {c.blocks(), c.columns})};
      });
    }
}

TEST(BlockMaxMinMeanKeys, MatchesTheReference) {
  for (const Case& c : kCases)
    for (const std::int64_t heads : {1, 3}) {
      SCOPED_TRACE(str("length ", c.length, " block ", c.block, " columns ", c.columns));
      const std::int64_t columns = heads * c.columns;
      expect_parity<BlockMaxMinMeanKeys>([&](TensorSource& source) {
        return BlockMaxMinMeanKeys::Arguments{c.batch, c.block, heads,
                                              source.input({c.batch * c.length, columns}),
                                              source.output("kp", {c.blocks(), 3 * columns})};
      });
    }
}

// bf16 rounds many keys to the same number: the first of them counts.
TEST(BlockMaxMinMeanKeys, BackwardMatchesTheReference) {
  for (const Case& c : kCases)
    for (const std::int64_t heads : {1, 3}) {
      SCOPED_TRACE(str("length ", c.length, " block ", c.block, " columns ", c.columns));
      const std::int64_t columns = heads * c.columns;
      expect_parity<BlockMaxMinMeanKeysBackward>([&](TensorSource& source) {
        return BlockMaxMinMeanKeysBackward::Arguments{
            c.batch,
            c.block,
            heads,
            source.input({c.batch * c.length, columns}, [](double z) { return std::round(2 * z); }),
            source.input({c.blocks(), 3 * columns}),
            source.output("dk", {c.batch * c.length, columns})};
      });
    }
}

std::vector<double> numbers(const Tensor& values) {
  const auto span = values.span<double>();
  return {span.begin(), span.end()};
}

// One sequence of three tokens in blocks of two, two heads of one; a document begins at token 1.
TEST(SeerPools, MatchAHandComputedCase) {
  const Tensor rows = Tensor::from<double>({3, 2}, std::vector<double>{1, -5, 4, 3, 7, 9});
  for (const std::string& name : implementation_names<BlockMaxMinMeanKeys>()) {
    ExecutionContext context = context_for(name);
    const Tensor kp = context.empty({2, 6}, DType::f64);
    dispatch<BlockMaxMinMeanKeys>({1, 2, 2, rows, kp}, context);
    EXPECT_EQ(numbers(kp), (std::vector<double>{4, 1, 2.5, 3, -5, -1, 7, 7, 7, 9, 9, 9}));
    const Tensor qg = context.empty({2, 2}, DType::f64);
    dispatch<GroupMeanQueries>({1, 2, rows, {}, qg}, context);
    EXPECT_EQ(numbers(qg), (std::vector<double>{2.5, -1, 7, 9}));
    const Tensor documents = Tensor::from<std::int32_t>({3}, std::vector<std::int32_t>{0, 1, 1});
    dispatch<GroupMeanQueries>({1, 2, rows, documents, qg}, context);
    EXPECT_EQ(numbers(qg), (std::vector<double>{1, -5, 7, 9}));
  }
}

// Two sequences of three tokens in blocks of two: the second block of each has one token.
TEST(BlockMeanKeys, MatchesAHandComputedCase) {
  const std::vector<double> k = {1, 3, 10, 20, 40, 7};
  for (const std::string& name : implementation_names<BlockMeanKeys>()) {
    ExecutionContext context = context_for(name);
    const Tensor kbar = context.empty({4, 1}, DType::f64);
    dispatch<BlockMeanKeys>({2, 2, Tensor::from<double>({6, 1}, k), kbar}, context);
    const auto got = kbar.span<double>();
    EXPECT_EQ(std::vector<double>(got.begin(), got.end()), (std::vector<double>{2, 10, 30, 7}));
    const Tensor first = context.empty({4, 1}, DType::f64);
    dispatch<GroupQueries>({2, 2, Tensor::from<double>({6, 1}, k), first}, context);
    const auto rows = first.span<double>();
    EXPECT_EQ(std::vector<double>(rows.begin(), rows.end()), (std::vector<double>{1, 10, 20, 7}));
  }
}

// A block's mean has the same bits wherever the block stands, so that a cache may keep it.
TEST(BlockMeanKeys, AMeanDoesNotDependOnItsSurroundings) {
  const Tensor k = random_normal({80, 5}, 1).to(DType::f32);
  for (const std::string& name : implementation_names<BlockMeanKeys>()) {
    ExecutionContext context = context_for(name);
    const Tensor all = context.empty({5, 5}, DType::f32), one = context.empty({1, 5}, DType::f32);
    dispatch<BlockMeanKeys>({1, 16, k, all}, context);
    dispatch<BlockMeanKeys>({1, 16, k.rows(32, 48), one}, context);
    EXPECT_EQ(std::memcmp(all.rows(2, 3).raw(), one.raw(), 5 * sizeof(float)), 0) << name;
  }
}

TEST(GatePooling, BackwardsAreTheGradients) {
  for (const std::string& name : implementation_names<BlockMeanKeys>()) {
    SCOPED_TRACE(name);
    ExecutionContext context = context_for(name);
    expect_kernel_gradients(
        {random_normal({2 * 11, 3}, 1)},
        [&](const Tensors& in) -> Tensors {
          const Tensor kbar = context.empty({6, 3}, DType::f64);
          dispatch<BlockMeanKeys>({2, 4, in[0], kbar}, context);
          return {kbar};
        },
        [&](const Tensors& in, const Tensors& d) -> Tensors {
          const Tensor dk = context.empty(in[0].shape(), DType::f64);
          dispatch<BlockMeanKeysBackward>({2, 4, d[0], dk}, context);
          return {dk};
        });
    expect_kernel_gradients(
        {random_normal({2 * 11, 6}, 1)},
        [&](const Tensors& in) -> Tensors {
          const Tensor kp = context.empty({6, 18}, DType::f64);
          dispatch<BlockMaxMinMeanKeys>({2, 4, 2, in[0], kp}, context);
          return {kp};
        },
        [&](const Tensors& in, const Tensors& d) -> Tensors {
          const Tensor dk = context.empty(in[0].shape(), DType::f64);
          dispatch<BlockMaxMinMeanKeysBackward>({2, 4, 2, in[0], d[0], dk}, context);
          return {dk};
        });
    expect_kernel_gradients(
        {random_normal({2 * 11, 3}, 1)},
        [&](const Tensors& in) -> Tensors {
          const Tensor qg = context.empty({6, 3}, DType::f64);
          dispatch<GroupQueries>({2, 4, in[0], qg}, context);
          return {qg};
        },
        [&](const Tensors& in, const Tensors& d) -> Tensors {
          const Tensor dq = context.empty(in[0].shape(), DType::f64);
          dispatch<GroupQueriesBackward>({2, 4, d[0], dq}, context);
          return {dq};
        });
  }
}

TEST(GatePooling, RefusesBlocksThatDoNotFit) {
  ExecutionContext context;
  const Tensor k = context.zeros({6, 2}, DType::f32);
  const auto reason = BlockMeanKeys::reject({2, 2, k, context.zeros({3, 2}, DType::f32)}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "blocks is [3, 2], expected 8 elements");
}

}  // namespace
}  // namespace filigree::testing
