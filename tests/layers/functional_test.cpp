// Every differentiable function against central differences, and the placements it refuses.
#include "layers/functional/functional.hpp"

#include <gtest/gtest.h>

#include <array>

#include "layers/batch_info.hpp"
#include "layers/vocab_parallel.hpp"
#include "parallel/run_ranks.hpp"
#include "tests/harness/gradcheck.hpp"

namespace filigree {
namespace {

using testing::gradcheck;
using testing::random_ids;
using testing::random_tensor;

Variable leaf(const Shape& shape, std::uint64_t stream, const Placements& placements = {},
              double deviation = 1.0) {
  return Variable(random_tensor(shape, stream, deviation), placements, true);
}

Tensor one_stream(std::int64_t stream) {
  return Tensor::from<std::int64_t>({1}, std::array{stream});
}

TEST(Gradcheck, Linear) {
  gradcheck([](Tape& tape, auto in) { return linear(tape, in[0], in[1]); },
            {leaf({5, 7}, 1), leaf({3, 7}, 2)});
}

TEST(Gradcheck, LinearRows) {
  const Placements replicated = Placements().with(Axis::tensor, Placement::replicated());
  gradcheck([](Tape& tape, auto in) { return linear_rows(tape, in[0], in[1], 2, 3); },
            {leaf({4, 6}, 1, replicated), leaf({8, 6}, 2, replicated)});
}

TEST(Gradcheck, LinearRowsWithABias) {
  gradcheck([](Tape& tape, auto in) { return linear_rows(tape, in[0], in[1], 0, 3, in[2]); },
            {leaf({5, 7}, 1), leaf({3, 7}, 2), leaf({3}, 3)});
  const Placements replicated = Placements().with(Axis::tensor, Placement::replicated());
  gradcheck([](Tape& tape, auto in) { return linear_rows(tape, in[0], in[1], 2, 3, in[2]); },
            {leaf({4, 6}, 1, replicated), leaf({8, 6}, 2, replicated), leaf({8}, 3, replicated)});
}

// Two uses of one bias, of different parts: what the first leaves out the second finds as zeros.
TEST(Gradcheck, PartsOfASharedBias) {
  const Placements replicated = Placements().with(Axis::tensor, Placement::replicated());
  gradcheck(
      [](Tape& tape, auto in) {
        return add(tape, linear_rows(tape, in[0], in[1], 1, 3, in[2]),
                   linear_rows(tape, in[0], in[1], 4, 3, in[2]));
      },
      {leaf({4, 6}, 1, replicated), leaf({8, 6}, 2, replicated), leaf({8}, 3, replicated)});
}

TEST(Gradcheck, AddBias) {
  gradcheck([](Tape& tape, auto in) { return add_bias(tape, in[0], in[1]); },
            {leaf({5, 3}, 1), leaf({3}, 2)});
  const auto on_tensor = [](Placement p) { return Placements().with(Axis::tensor, p); };
  gradcheck([](Tape& tape, auto in) { return add_bias(tape, in[0], in[1], 2); },
            {leaf({4, 3}, 1, on_tensor(Placement::sharded(1))),
             leaf({8}, 2, on_tensor(Placement::replicated()))});
}

TEST(AddBias, AddsTheElementsFromFirstOnToEveryToken) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x(Tensor::from<double>({2, 2}, std::array{1.0, 2.0, 3.0, 4.0}), {});
  const Variable b(Tensor::from<double>({3}, std::array{100.0, 10.0, 20.0}), {});
  const Tensor y = add_bias(tape, x, b, 1).value();
  const std::array expected{11.0, 22.0, 13.0, 24.0};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(y.data<double>()[i], expected[i]);
  EXPECT_EQ(x.value().data<double>()[0], 1.0);  // what others may have saved
  const Placements partial = Placements().with(Axis::tensor, Placement::partial());
  EXPECT_THROW(add_bias(tape, Variable(x.value(), partial), b, 1), InternalError);
}

// y = x w[1, 3)^T + b[1, 3)
TEST(LinearRows, AddsTheBiasOfItsRowsToEveryToken) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x(Tensor::from<double>({2, 1}, std::array{1.0, 2.0}), {});
  const Variable w(Tensor::from<double>({3, 1}, std::array{5.0, 3.0, 4.0}), {});
  const Variable b(Tensor::from<double>({3}, std::array{100.0, 10.0, 20.0}), {});
  const Tensor y = linear_rows(tape, x, w, 1, 2, b).value();
  const std::array expected{13.0, 24.0, 16.0, 28.0};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(y.data<double>()[i], expected[i]);
}

// Every rank would add it to its part of a sum.
TEST(LinearRows, RefusesABiasOnAPartialResult) {
  ExecutionContext execution;
  Tape tape(execution);
  const auto on_tensor = [](Placement p) { return Placements().with(Axis::tensor, p); };
  const Variable x = leaf({4, 6}, 1, on_tensor(Placement::sharded(1)));
  const Variable w = leaf({3, 6}, 2, on_tensor(Placement::sharded(1)));
  const Variable b = leaf({3}, 3, on_tensor(Placement::replicated()));
  EXPECT_THROW(linear_rows(tape, x, w, 0, 3, b), InternalError);
}

TEST(Gradcheck, SharedInputAccumulates) {
  gradcheck(
      [](Tape& tape, auto in) {
        return add(tape, linear(tape, in[0], in[1]), linear(tape, in[0], in[2]));
      },
      {leaf({5, 4}, 1), leaf({3, 4}, 2), leaf({3, 4}, 3)});
}

TEST(Gradcheck, Embedding) {
  const Variable ids(random_ids(9, 6, 4), {});
  gradcheck([&](Tape& tape, auto in) { return embedding(tape, ids, in[0], 0); }, {leaf({6, 5}, 1)});
}

TEST(Gradcheck, RmsNorm) {
  gradcheck([](Tape& tape, auto in) { return rms_norm(tape, in[0], in[1], 1e-5); },
            {leaf({6, 8}, 1), leaf({8}, 2)});
}

TEST(Gradcheck, ConstantWeights) {
  const Variable norm(random_tensor({8}, 2), {}), projection(random_tensor({3, 8}, 3), {});
  gradcheck([&](Tape& tape,
                auto in) { return linear(tape, rms_norm(tape, in[0], norm, 1e-5), projection); },
            {leaf({6, 8}, 1)});
}

TEST(Gradcheck, Rope) {
  const Tensor positions = sequential_positions(2, 5, 3);
  gradcheck([&](Tape& tape, auto in) { return rope(tape, in[0], positions, 4, {.theta = 100.0}); },
            {leaf({10, 8}, 1)});
}

TEST(Gradcheck, Swiglu) {
  gradcheck([](Tape& tape, auto in) { return swiglu(tape, in[0], in[1]); },
            {leaf({4, 6}, 1), leaf({4, 6}, 2)});
}

TEST(Gradcheck, AddOfOneVariableToItself) {
  gradcheck([](Tape& tape, auto in) { return add(tape, in[0], in[0]); }, {leaf({4, 3}, 1)});
}

TEST(Gradcheck, Dropout) {
  gradcheck([](Tape& tape, auto in) { return dropout(tape, in[0], 0.4, 7, one_stream(3), 11); },
            {leaf({6, 5}, 1)});
}

TEST(Gradcheck, CausalGroupedAttention) {
  const AttentionShape shape{.batch = 2,
                             .query_length = 7,
                             .key_length = 7,
                             .query_heads = 4,
                             .kv_heads = 2,
                             .head_dim = 4,
                             .scale = 0.5};
  gradcheck([&](Tape& tape, auto in) { return attention(tape, in[0], in[1], in[2], shape); },
            {leaf({14, 16}, 1), leaf({14, 8}, 2), leaf({14, 8}, 3)});
}

TEST(Gradcheck, CrossEntropyWithIgnoredTargets) {
  Tensor targets = random_ids(8, 5, 6);
  targets.data<std::int32_t>()[3] = -1;
  run_ranks(1, [&](std::shared_ptr<Communicator> world) {
    const Mesh mesh(world, {});
    gradcheck([&](Tape& tape,
                  auto in) { return vocab_parallel_cross_entropy(tape, in[0], targets, 0, mesh); },
              {leaf({8, 5}, 1, Placements().with(Axis::tensor, Placement::sharded(1)))});
  });
}

TEST(CrossEntropy, VocabularySplitOverRanksEqualsOneRank) {
  constexpr std::int64_t kTokens = 6, kVocabulary = 7;
  const Tensor logits = random_tensor({kTokens, kVocabulary}, 21, 3.0);
  const Tensor targets = random_ids(kTokens, kVocabulary, 22);
  std::vector<double> losses;
  std::vector<double> gradients(kTokens * kVocabulary);
  std::vector<double> whole_gradient;
  for (const int ranks : {1, 3}) {
    std::mutex mutex;
    run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
      const Mesh mesh(world, {.tensor = ranks});
      const ShardRange range = shard_range(kVocabulary, ranks, world->rank());
      Tensor local = Tensor::empty({kTokens, range.size()}, DType::f64);
      for (std::int64_t t = 0; t < kTokens; ++t)
        for (std::int64_t v = 0; v < range.size(); ++v)
          local.data<double>()[t * range.size() + v] =
              logits.data<double>()[t * kVocabulary + range.begin + v];
      const Variable x(local, Placements().with(Axis::tensor, Placement::sharded(1)), true);
      ExecutionContext execution;
      Tape tape(execution);
      const Variable loss = vocab_parallel_cross_entropy(tape, x, targets, range.begin, mesh);
      tape.backward(loss, Tensor::from<double>({}, std::array{0.7}));
      std::lock_guard lock(mutex);
      if (world->rank() == 0) losses.push_back(*loss.value().data<double>());
      for (std::int64_t t = 0; t < kTokens; ++t)
        for (std::int64_t v = 0; v < range.size(); ++v)
          gradients[t * kVocabulary + range.begin + v] =
              x.gradient().data<double>()[t * range.size() + v];
    });
    if (ranks == 1) whole_gradient = gradients;
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-12);
  for (std::size_t i = 0; i < gradients.size(); ++i)
    EXPECT_NEAR(gradients[i], whole_gradient[i], 1e-14) << "element " << i;
}

TEST(Placements, LinearRefusesAMissingTransition) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = leaf({4, 6}, 1);
  const Variable w = leaf({8, 6}, 2, Placements().with(Axis::tensor, Placement::sharded(0)));
  EXPECT_THROW(linear(tape, x, w), InternalError);
}

TEST(Placements, NonLinearFunctionsRefusePartialSums) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = leaf({4, 6}, 1, Placements().with(Axis::tensor, Placement::partial()));
  EXPECT_THROW(swiglu(tape, x, x), InternalError);
  EXPECT_THROW(dropout(tape, x, 0.5, 1, one_stream(1), 0), InternalError);
}

}  // namespace
}  // namespace filigree
