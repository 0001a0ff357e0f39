#include "runtime/autograd/tape.hpp"

#include <gtest/gtest.h>

#include "autograd_helpers.hpp"
#include "tests/harness/bits.hpp"

namespace filigree::testing {
namespace {

constexpr std::int64_t kCount = 37;
const Shape kShape = {kCount};

// Checks gradient[i] == expected(i) to rounding.
template <class Function>
void expect_gradient(const Variable& variable, Function&& expected) {
  ASSERT_TRUE(variable.gradient().defined());
  for (std::int64_t i = 0; i < kCount; ++i)
    EXPECT_NEAR(variable.gradient().data<double>()[i], expected(i), 1e-13) << "element " << i;
}

TEST(Tape, RunsOpsInReverseAndIsEmptyAfterwards) {
  ExecutionContext execution;
  Tape tape(execution);
  std::vector<std::string> trace;
  const Variable w = random_parameter("w", kShape, 1);
  const Variable first = multiply(tape, random_input(kShape, 2), w, "first", &trace);
  const Variable second = multiply(tape, first, w, "second", &trace);
  const Variable third = multiply(tape, second, first, "third", &trace);
  tape.backward(third, random_tensor(kShape, 3));
  EXPECT_EQ(trace, (std::vector<std::string>{"third", "second", "first"}));

  trace.clear();
  const Variable again = multiply(tape, random_input(kShape, 4), w, "again", &trace);
  tape.backward(again, random_tensor(kShape, 5));
  EXPECT_EQ(trace, std::vector<std::string>{"again"});
}

TEST(Tape, SumsContributionsOfEveryUse) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable a = random_input(kShape, 1), b = random_input(kShape, 2);
  const Variable w = random_parameter("w", kShape, 3);
  // y = a * a * w + a * b + w * w
  const Variable y =
      add(tape, add(tape, multiply(tape, multiply(tape, a, a), w), multiply(tape, a, b)),
          multiply(tape, w, w));
  const Tensor g = random_tensor(kShape, 4);
  tape.backward(y, g.clone());
  const double *A = a.value().data<double>(), *B = b.value().data<double>(),
               *W = w.value().data<double>(), *G = g.data<double>();
  expect_gradient(a, [&](auto i) { return G[i] * (2 * A[i] * W[i] + B[i]); });
  expect_gradient(b, [&](auto i) { return G[i] * A[i]; });
  expect_gradient(w, [&](auto i) { return G[i] * (A[i] * A[i] + 2 * W[i]); });
}

// y = a * w, and beside it the objective c * (a * a * w), plainly and from inside a recompute
// region.
TEST(Tape, DifferentiatesAuxiliaryObjectives) {
  for (const bool recomputes : {false, true}) {
    SCOPED_TRACE(recomputes);
    ExecutionContext execution;
    Tape tape(execution);
    const Variable a = random_input(kShape, 1), w = random_parameter("w", kShape, 2);
    const Tensor c = random_tensor(kShape, 3), g = random_tensor(kShape, 4);
    const auto function = [&](Tape& t, std::span<const Variable> inputs) {
      const Variable y = multiply(t, inputs[0], w);
      t.add_objective(multiply(t, inputs[0], y), c.clone());
      return y;
    };
    const Variable y = recomputes ? recompute(tape, function, {a}) : function(tape, std::vector{a});
    tape.backward(y, g.clone());
    const double *A = a.value().data<double>(), *W = w.value().data<double>(),
                 *C = c.data<double>(), *G = g.data<double>();
    expect_gradient(a, [&](auto i) { return G[i] * W[i] + 2 * C[i] * A[i] * W[i]; });
    expect_gradient(w, [&](auto i) { return G[i] * A[i] + C[i] * A[i] * A[i]; });
  }
}

// An addition hands one tensor to both inputs. What x collects later must not appear in y's
// gradient, nor in the seed.
TEST(Tape, KeepsSharedContributionsApart) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = random_input(kShape, 1), y = random_input(kShape, 2);
  const Variable other = multiply(tape, x, y);
  const Variable sum = add(tape, x, y);
  const Variable z = add(tape, sum, other);
  const Tensor seed = random_tensor(kShape, 3), seed_before = seed.clone();
  tape.backward(z, seed);
  const double *X = x.value().data<double>(), *Y = y.value().data<double>(),
               *G = seed_before.data<double>();
  expect_gradient(x, [&](auto i) { return G[i] * (1 + Y[i]); });
  expect_gradient(y, [&](auto i) { return G[i] * (1 + X[i]); });
  EXPECT_TRUE(same_bits(seed, seed_before));
}

TEST(Tape, WritesThroughTargetsWithoutTouchingSharedContributions) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = random_input(kShape, 1), y = random_input(kShape, 2);
  const Variable copy = tape.output(x.value().clone(), Placements(), {&x, 1});
  tape.record("in place", {x}, {copy}, [](const BackwardContext& context) {
    const auto into = context.target(0, {});
    EXPECT_TRUE(into.accumulate);
    for (double& value : into.gradient.span<double>()) value += 1000.0;
  });
  const Variable z = add(tape, copy, add(tape, x, y));
  const Tensor seed = random_tensor(kShape, 3);
  tape.backward(z, seed.clone());
  expect_gradient(x, [&](auto i) { return seed.data<double>()[i] + 1000.0; });
  expect_gradient(y, [&](auto i) { return seed.data<double>()[i]; });
}

TEST(Tape, AccumulatesParametersOverPassesUntilCleared) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable w = random_parameter("w", kShape, 1),
                 x = Variable(random_tensor(kShape, 2), Placements());
  EXPECT_FALSE(w.gradient().defined());
  const Tensor g = random_tensor(kShape, 3);
  for (int pass = 1; pass <= 3; ++pass) {
    tape.backward(multiply(tape, w, x), g.clone());
    expect_gradient(
        w, [&](auto i) { return pass * g.data<double>()[i] * x.value().data<double>()[i]; });
  }
  const void* buffer = w.gradient().raw();
  w.clear_gradient();
  EXPECT_FALSE(w.gradient().defined());
  EXPECT_FALSE(w.gradient_placements().has_value());
  tape.backward(multiply(tape, w, x), g.clone());
  expect_gradient(w, [&](auto i) { return g.data<double>()[i] * x.value().data<double>()[i]; });
  EXPECT_EQ(w.gradient().raw(), buffer) << "the caller's buffer must stay in use";
}

TEST(Tape, CollectsNarrowContributionsInAWiderParameterGradient) {
  ExecutionContext execution;
  Tape tape(execution);
  const Tensor value = random_tensor<float>(kShape, 1).to(DType::bf16);
  const Variable w =
      Variable::parameter("w", value, Tensor::empty(kShape, DType::f32), Placements());
  const Tensor contribution = random_tensor<float>(kShape, 2).to(DType::bf16);
  for (int pass = 0; pass < 2; ++pass) {
    const Variable y = tape.output(value.clone(), Placements(), {&w, 1});
    tape.record("use", {w}, {y},
                [&](const BackwardContext& context) { context.accumulate(0, contribution, {}); });
    tape.backward(y, contribution);
  }
  for (std::int64_t i = 0; i < kCount; ++i)
    EXPECT_EQ(w.gradient().data<float>()[i],
              2.0f * static_cast<float>(contribution.data<BFloat16>()[i]));
}

TEST(Tape, ReportsEachParameterOnceWhenItIsComplete) {
  ExecutionContext execution;
  Tape tape(execution);
  std::vector<std::string> trace;
  const Variable early = random_parameter("early", kShape, 1),
                 twice = random_parameter("twice", kShape, 2);
  const Variable tied = random_parameter("tied", kShape, 3);
  Variable x = multiply(tape, random_input(kShape, 4), early, "0", &trace);
  x = multiply(tape, x, tied, "1", &trace);
  x = multiply(tape, x, twice, "2", &trace);
  const Variable square = multiply(tape, twice, twice, "3", &trace);
  x = multiply(tape, x, square, "4", &trace);
  x = multiply(tape, x, tied, "5", &trace);
  Tensor tied_when_ready;
  tape.on_gradient_ready([&](const Variable& parameter) {
    trace.push_back("ready " + parameter.name());
    if (parameter.same_as(tied)) tied_when_ready = parameter.gradient().clone();
  });
  tape.backward(x, random_tensor(kShape, 5));
  EXPECT_EQ(trace, (std::vector<std::string>{"5", "4", "3", "2", "ready twice", "1", "ready tied",
                                             "0", "ready early"}));
  EXPECT_TRUE(same_bits(tied_when_ready, tied.gradient()));
}

TEST(Tape, SkipsBranchesThatNothingDependsOn) {
  ExecutionContext execution;
  Tape tape(execution);
  std::vector<std::string> trace, ready;
  const Variable used = random_parameter("used", kShape, 1),
                 unused = random_parameter("unused", kShape, 2);
  const Variable x = random_input(kShape, 3);
  const Variable y = multiply(tape, x, used, "main", &trace);
  multiply(tape, x, unused, "side", &trace);
  tape.on_gradient_ready([&](const Variable& parameter) { ready.push_back(parameter.name()); });
  tape.backward(y, random_tensor(kShape, 4));
  EXPECT_EQ(trace, std::vector<std::string>{"main"});
  EXPECT_FALSE(unused.gradient().defined());
  EXPECT_EQ(ready, (std::vector<std::string>{"unused", "used"}))
      << "nothing is still to come for either";
}

TEST(Tape, ReleasesSavedTensorsAndGradientsAsBackwardConsumesThem) {
  ExecutionContext execution;
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  execution.allocator = allocator;
  const auto live = [&] {
    for (const MemoryRow& row : allocator->table())
      if (row.name == name_of(MemoryUse::activations)) return row.live_bytes;
    return std::int64_t{-1};
  };
  const Shape big = {4096};
  const std::int64_t bytes = 4096 * 8;
  Tape tape(execution);
  const Variable w = random_parameter("w", big, 1);
  std::vector<std::int64_t> live_before_backward;
  constexpr int kLayers = 6;
  {
    Variable x = random_input(big, 2);
    for (int layer = 0; layer < kLayers; ++layer) {
      const Variable y = multiply(tape, x, w);
      const Variable z = tape.output(y.value(), Placements(), {&y, 1});
      tape.record("probe", {y}, {z}, [&](const BackwardContext& context) {
        live_before_backward.push_back(live());
        context.accumulate(0, context.output_gradient(), {});
      });
      x = z;
    }
    const Tensor seed = random_tensor(big, 3);
    const Variable last = x;
    x = Variable();
    tape.backward(last, seed);
  }
  ASSERT_EQ(live_before_backward.size(), static_cast<std::size_t>(kLayers));
  for (std::size_t i = 1; i < live_before_backward.size(); ++i) {
    // Every layer gives back what it saved and passes its gradient down. The first one trades what
    // it saved for the first gradient below the seed.
    const std::int64_t change = live_before_backward[i] - live_before_backward[i - 1];
    EXPECT_EQ(change, i == 1 ? 0 : -bytes) << "after layer " << kLayers - i;
  }
  EXPECT_EQ(live(), 0);
}

TEST(Tape, RecordsNothingForInference) {
  ExecutionContext execution;
  Tape tape(execution, Tape::Mode::inference);
  const Variable w = random_parameter("w", kShape, 1);
  const Variable y = multiply(tape, random_input(kShape, 2), w);
  EXPECT_FALSE(y.requires_gradient());
  EXPECT_NE(
      internal_error_of([&] { tape.backward(y, random_tensor(kShape, 3)); }).find("inference tape"),
      std::string::npos);
}

TEST(Tape, RefusesSeedsThatDoNotFit) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable y = multiply(tape, random_input(kShape, 1), random_parameter("w", kShape, 2));
  EXPECT_NE(internal_error_of([&] {
              tape.backward(y, random_tensor({kCount + 1}, 3));
            }).find("seed of backward"),
            std::string::npos);
  const Variable constant(random_tensor(kShape, 4), Placements());
  EXPECT_NE(internal_error_of([&] {
              tape.backward(constant, random_tensor(kShape, 3));
            }).find("depends on no parameter"),
            std::string::npos);
}

}  // namespace
}  // namespace filigree::testing
