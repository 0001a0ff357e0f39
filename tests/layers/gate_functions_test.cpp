// The gate's differentiable functions against central differences.
#include "layers/functional/gate.hpp"

#include <gtest/gtest.h>

#include "kernels/attention/block_selection.hpp"
#include "kernels/gate/block_mass.hpp"
#include "layers/functional/functional.hpp"
#include "layers/sparsity/block_layout.hpp"
#include "tests/harness/gradcheck.hpp"

namespace filigree {
namespace {

using testing::gradcheck;
using testing::random_tensor;

constexpr std::int64_t kBatch = 2, kHeads = 4, kKvHeads = 2, kWidth = 4, kLength = 27;

Variable leaf(const Shape& shape, std::uint64_t stream, double deviation = 1.0) {
  return Variable(random_tensor(shape, stream, deviation), {}, true);
}

// Groups of 3 queries, blocks of 4 keys; neither divides the length.
BlockGrid grid() {
  BlockGrid grid;
  grid.batch = kBatch;
  grid.heads = kHeads;
  grid.query_length = grid.key_length = kLength;
  grid.query_block = 3;
  grid.key_block = 4;
  return grid;
}

// Finite scores where the group has candidates, as the gate makes them elsewhere.
Variable finite_scores(std::uint64_t stream) {
  return leaf({kBatch, kHeads, grid().groups(), grid().key_blocks()}, stream);
}

BlockLists chosen(const Tensor& scores, std::int32_t budget) {
  const BlockGrid g = grid();
  const std::int64_t groups = g.groups(), blocks = g.key_blocks();
  ExecutionContext execution;
  BlockLists lists;
  lists.query_block = g.query_block;
  lists.key_block = g.key_block;
  lists.counts_BHN = Tensor::empty({kBatch, kHeads, groups}, DType::i32);
  lists.indices_BHNJ = Tensor::empty({kBatch, kHeads, groups, blocks}, DType::i32);
  lists.transposed_counts_BHM = Tensor::empty({kBatch, kHeads, blocks}, DType::i32);
  lists.transposed_indices_BHMN = Tensor::empty({kBatch, kHeads, blocks, groups}, DType::i32);
  const std::vector<std::int32_t> budgets(static_cast<std::size_t>(groups), budget);
  dispatch<BlockSelect>({.grid = g,
                         .scores_BHNM = scores,
                         .budgets_N = Tensor::from<std::int32_t>({groups}, budgets),
                         .counts_BHN = lists.counts_BHN,
                         .indices_BHNJ = lists.indices_BHNJ},
                        execution);
  dispatch<BlockTranspose>({.counts_BHN = lists.counts_BHN,
                            .indices_BHNJ = lists.indices_BHNJ,
                            .transposed_counts_BHM = lists.transposed_counts_BHM,
                            .transposed_indices_BHMN = lists.transposed_indices_BHMN},
                           execution);
  return lists;
}

TEST(GateGradcheck, BlockMaxMinMeanKeys) {
  gradcheck([](Tape& tape, auto in) { return block_max_min_mean_keys(tape, in[0], kBatch, 4, 2); },
            {leaf({kBatch * kLength, 6}, 1)});
}

TEST(GateGradcheck, BlockMeanKeys) {
  gradcheck([](Tape& tape, auto in) { return block_mean_keys(tape, in[0], kBatch, 4); },
            {leaf({kBatch * kLength, 6}, 1)});
}

TEST(GateGradcheck, GroupQueries) {
  gradcheck([](Tape& tape, auto in) { return group_queries(tape, in[0], kBatch, 3); },
            {leaf({kBatch * kLength, 6}, 1)});
}

TEST(GateGradcheck, HeadProjectionOfSharedInputHeads) {
  gradcheck(
      [](Tape& tape, auto in) { return head_projection(tape, in[0], in[1], kHeads, kKvHeads); },
      {leaf({7, kKvHeads * kWidth}, 1), leaf({kHeads * 6, kWidth}, 2)});
}

// Scores are -infinity outside the candidates: what follows reads candidates only, and so does
// this cotangent.
TEST(GateGradcheck, GateScoresThroughTheBias) {
  const BlockGrid g = grid();
  const Tensor fixed_scores = random_tensor({kBatch, kHeads, g.groups(), g.key_blocks()}, 5);
  const BlockLists lists = chosen(fixed_scores, 5);
  gradcheck(
      [&](Tape& tape, auto in) {
        return soft_gate_bias(tape, gate_scores(tape, in[0], in[1], g, 0.5), lists, {}, g, 0.7);
      },
      {leaf({kBatch * g.groups(), kHeads * 6}, 1), leaf({kBatch * g.key_blocks(), kHeads * 6}, 2)});
}

TEST(GateGradcheck, SoftGateBiasSparesDenseHeads) {
  const Variable z = finite_scores(3);
  const BlockLists lists = chosen(z.value(), 5);
  const Tensor dense =
      Tensor::from<std::uint8_t>({kHeads}, std::array<std::uint8_t, 4>{0, 1, 0, 0});
  gradcheck([&](Tape& tape, auto in) { return soft_gate_bias(tape, in[0], lists, dense, grid()); },
            {z});
}

TEST(GateGradcheck, DistillLoss) {
  const BlockGrid g = grid();
  const Tensor groups = Tensor::from<std::int32_t>({3}, std::array<std::int32_t, 3>{2, 5, 8});
  GateTeacher teacher{groups, Tensor::empty({kBatch, kHeads, 3, g.key_blocks()}, DType::f64),
                      Tensor::empty({kBatch, kHeads, 3}, DType::f64)};
  ExecutionContext execution;
  dispatch<BlockMassTeacher>({.grid = g,
                              .kv_heads = kKvHeads,
                              .scale = 0.5,
                              .q_THK = random_tensor({kBatch * kLength, kHeads * kWidth}, 6),
                              .k_TGK = random_tensor({kBatch * kLength, kKvHeads * kWidth}, 7),
                              .groups_R = groups,
                              .teacher_BHRM = teacher.teacher_BHRM,
                              .weight_BHR = teacher.weight_BHR},
                             execution);
  gradcheck([&](Tape& tape, auto in) { return distill_loss(tape, in[0], teacher, g).loss; },
            {finite_scores(4)});
}

AttentionShape attention_shape() {
  return {.batch = kBatch,
          .query_length = kLength,
          .key_length = kLength,
          .query_heads = kHeads,
          .kv_heads = kKvHeads,
          .head_dim = kWidth,
          .scale = 0.5};
}

TEST(GateGradcheck, BlockSparseAttentionWithItsBias) {
  AttentionPattern pattern;
  pattern.window = 2;
  pattern.sinks = 1;
  pattern.lists = chosen(finite_scores(8).value(), 4);
  const Shape bias = pattern.lists.indices_BHNJ.shape();
  gradcheck(
      [&](Tape& tape, auto in) {
        return attention(tape, in[0], in[1], in[2], attention_shape(), pattern, in[3]);
      },
      {leaf({kBatch * kLength, kHeads * kWidth}, 1), leaf({kBatch * kLength, kKvHeads * kWidth}, 2),
       leaf({kBatch * kLength, kKvHeads * kWidth}, 3), leaf(bias, 4)});
}

TEST(GatePlacements, ProjectionRefusesAMissingTransition) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = leaf({4, 8}, 1);
  const Variable w(random_tensor({8, 4}, 2), Placements().with(Axis::tensor, Placement::sharded(0)),
                   true);
  EXPECT_THROW(head_projection(tape, x, w, 2, 2), InternalError);
}

TEST(GatePlacements, DistillLossIsPartialWhereScoresAreSplit) {
  ExecutionContext execution;
  Tape tape(execution);
  const Placements split = Placements()
                               .with(Axis::data, Placement::sharded(0))
                               .with(Axis::tensor, Placement::sharded(1));
  const Variable z(finite_scores(4).value(), split, true);
  const Tensor groups = Tensor::from<std::int32_t>({1}, std::array<std::int32_t, 1>{4});
  const GateTeacher teacher{groups,
                            Tensor::zeros({kBatch, kHeads, 1, grid().key_blocks()}, DType::f64),
                            Tensor::zeros({kBatch, kHeads, 1}, DType::f64)};
  const Placements placements = distill_loss(tape, z, teacher, grid()).loss.placements();
  EXPECT_TRUE(placements[Axis::data].is_partial());
  EXPECT_TRUE(placements[Axis::tensor].is_partial());
  EXPECT_TRUE(placements[Axis::pipeline].is_invariant());
}

TEST(ZeroGradient, ReachesAParameterThatTakesNoPart) {
  ExecutionContext execution;
  Tape tape(execution);
  const auto parameter = [](std::uint64_t stream) {
    return Variable::parameter(str("p", stream), random_tensor({3, 3}, stream),
                               random_tensor({3, 3}, 90 + stream), {});
  };
  const Variable idle = parameter(1), used = parameter(2);
  const Variable y = linear(tape, leaf({4, 3}, 3), used);
  give_zero_gradient(tape, idle);
  tape.backward(y, random_tensor({4, 3}, 4));
  ASSERT_TRUE(idle.gradient().defined());
  for (const double value : idle.gradient().span<double>()) EXPECT_EQ(value, 0.0);
}

}  // namespace
}  // namespace filigree
