#include <gtest/gtest.h>

#include "autograd_helpers.hpp"
#include "tests/harness/bits.hpp"

namespace filigree::testing {
namespace {

const Shape kShape = {1003};

// Two products with rounding in f32, run plainly or inside (nested) recompute regions.
struct Network {
  Variable w1 = random_parameter<float>("w1", kShape, 1),
           w2 = random_parameter<float>("w2", kShape, 2);
  Variable x = Variable(random_tensor<float>(kShape, 3), Placements(), true);

  Variable inner(Tape& tape, const Variable& in) const {
    return multiply<float>(tape, multiply<float>(tape, in, w1), in);
  }
  Variable outer(Tape& tape, const Variable& in, bool recomputes) const {
    const auto function = [this](Tape& t, std::span<const Variable> inputs) {
      return inner(t, inputs[0]);
    };
    const Variable h = recomputes ? recompute(tape, function, {in}) : inner(tape, in);
    return multiply<float>(tape, multiply<float>(tape, h, w2), h);
  }
  // depth 0: keeps everything; 1: the inner part is recomputed; 2: both are, one inside the other.
  Tensor run(int depth) const {
    for (const Variable& v : {w1, w2, x}) v.clear_gradient();
    ExecutionContext execution;
    Tape tape(execution);
    const auto function = [this](Tape& t, std::span<const Variable> inputs) {
      return outer(t, inputs[0], true);
    };
    const Variable y = depth == 2 ? recompute(tape, function, {x}) : outer(tape, x, depth == 1);
    const Tensor value = y.value().clone();
    tape.backward(y, random_tensor<float>(kShape, 4));
    return value;
  }
};

TEST(Recompute, GivesTheSameBits) {
  const Network network;
  const Tensor y = network.run(0);
  const Tensor x = network.x.gradient().clone(), w1 = network.w1.gradient().clone(),
               w2 = network.w2.gradient().clone();
  for (const int depth : {1, 2}) {
    SCOPED_TRACE(depth);
    EXPECT_TRUE(same_bits(network.run(depth), y));
    EXPECT_TRUE(same_bits(network.x.gradient(), x));
    EXPECT_TRUE(same_bits(network.w1.gradient(), w1));
    EXPECT_TRUE(same_bits(network.w2.gradient(), w2));
  }
}

TEST(Recompute, KeepsOnlyItsInputs) {
  const Shape big = {4096};
  const Variable w = random_parameter("w", big, 1), x = random_input(big, 2);
  const auto kept_bytes = [&](bool recomputes) {
    ExecutionContext execution;
    const auto allocator = std::make_shared<CachingAllocator>(Device{});
    execution.allocator = allocator;
    Tape tape(execution);
    const auto function = [&](Tape& t, std::span<const Variable> inputs) {
      Variable y = inputs[0];
      for (int i = 0; i < 5; ++i) y = multiply(t, y, w);
      return y;
    };
    const Variable y = recomputes ? recompute(tape, function, {x}) : function(tape, {&x, 1});
    for (const MemoryRow& row : allocator->table())
      if (row.name == name_of(MemoryUse::activations)) return row.live_bytes / (4096 * 8);
    return std::int64_t{-1};
  };
  EXPECT_EQ(kept_bytes(false), 5);
  EXPECT_EQ(kept_bytes(true), 1) << "the output alone";
}

TEST(Recompute, ReportsParametersOnceAfterTheirLastRegion) {
  ExecutionContext execution;
  Tape tape(execution);
  std::vector<std::string> trace;
  const Variable inside = random_parameter("inside", kShape, 1),
                 both = random_parameter("both", kShape, 2);
  const auto region = [&](Tape& t, std::span<const Variable> inputs) {
    return multiply(t, multiply(t, inputs[0], inside, "a", &trace), both, "b", &trace);
  };
  const Variable h = multiply(tape, random_input(kShape, 3), both, "before", &trace);
  const Variable y = recompute(tape, region, {recompute(tape, region, {h})});
  tape.on_gradient_ready(
      [&](const Variable& parameter) { trace.push_back("ready " + parameter.name()); });
  tape.backward(y, random_tensor(kShape, 4));
  EXPECT_EQ(trace,
            (std::vector<std::string>{"b", "a", "b", "a", "ready inside", "before", "ready both"}));
}

TEST(Recompute, TakesParametersAsInputsToo) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable w = random_parameter("w", kShape, 1), x = random_input(kShape, 2);
  const auto square = [&](Tape& t, std::span<const Variable> inputs) {
    return multiply(t, multiply(t, inputs[0], inputs[1]), w);  // as an input and captured
  };
  const Variable y = recompute(tape, square, {x, w});
  int reported = 0;
  tape.on_gradient_ready([&](const Variable&) { ++reported; });
  const Tensor g = random_tensor(kShape, 3);
  tape.backward(y, g.clone());
  EXPECT_EQ(reported, 1);
  for (std::int64_t i = 0; i < kShape.numel(); ++i) {
    const double wanted =
        2 * g.data<double>()[i] * x.value().data<double>()[i] * w.value().data<double>()[i];
    ASSERT_NEAR(w.gradient().data<double>()[i], wanted, 1e-13 * (1 + std::abs(wanted)));
  }
}

TEST(Recompute, OfAConstantNeedsNoGradient) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable constant(random_tensor(kShape, 1), Placements()), x = random_input(kShape, 2);
  const auto ignore_input = [&](Tape& t, std::span<const Variable>) {
    return multiply(t, constant, constant);
  };
  const Variable h = recompute(tape, ignore_input, {x});
  EXPECT_FALSE(h.requires_gradient());
  const Tensor g = random_tensor(kShape, 3);
  tape.backward(multiply(tape, h, x), g.clone());
  for (std::int64_t i = 0; i < kShape.numel(); ++i)
    ASSERT_EQ(x.gradient().data<double>()[i], g.data<double>()[i] * h.value().data<double>()[i]);
}

// A region whose result is a constant may still hold what an auxiliary loss teaches.
TEST(Recompute, KeepsObjectivesOfAConstantResult) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable constant(random_tensor(kShape, 1), Placements()),
      w = random_parameter("w", kShape, 2);
  const Tensor g = random_tensor(kShape, 3);
  const auto region = [&](Tape& t, std::span<const Variable> inputs) {
    t.add_objective(multiply(t, inputs[0], w), g.clone());
    return multiply(t, inputs[0], inputs[0]);
  };
  const Variable h = recompute(tape, region, {constant});
  EXPECT_FALSE(h.requires_gradient());
  tape.backward(h, random_tensor(kShape, 4));
  for (std::int64_t i = 0; i < kShape.numel(); ++i)
    ASSERT_EQ(w.gradient().data<double>()[i],
              g.data<double>()[i] * constant.value().data<double>()[i]);
}

TEST(Recompute, OfTheIdentityPassesTheGradientOn) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = random_input(kShape, 1), w = random_parameter("w", kShape, 2);
  const Variable h = recompute(tape, [](Tape&, std::span<const Variable> in) { return in[0]; },
                               {multiply(tape, x, w)});
  const Tensor g = random_tensor(kShape, 3);
  tape.backward(h, g.clone());
  for (std::int64_t i = 0; i < kShape.numel(); ++i)
    ASSERT_EQ(x.gradient().data<double>()[i], g.data<double>()[i] * w.value().data<double>()[i]);
}

}  // namespace
}  // namespace filigree::testing
