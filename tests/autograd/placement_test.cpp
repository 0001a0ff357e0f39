#include "runtime/autograd/placement.hpp"

#include <gtest/gtest.h>

#include "autograd_helpers.hpp"

namespace filigree::testing {
namespace {

TEST(Placement, GradientsAreDuals) {
  EXPECT_EQ(Placement::invariant().gradient(), Placement::invariant());
  EXPECT_EQ(Placement::replicated().gradient(), Placement::partial());
  EXPECT_EQ(Placement::partial().gradient(), Placement::replicated());
  EXPECT_EQ(Placement::sharded(2).gradient(), Placement::sharded(2));
  const Placements mixed = Placements()
                               .with(Axis::tensor, Placement::replicated())
                               .with(Axis::data, Placement::sharded(0));
  EXPECT_EQ(mixed.gradient(), Placements()
                                  .with(Axis::tensor, Placement::partial())
                                  .with(Axis::data, Placement::sharded(0)));
  EXPECT_EQ(str(mixed),
            "{pipeline invariant, data sharded(0), context invariant, tensor replicated}");
}

// The error of a backward that places the gradient of `input` as `gradient`; "no error" when it is
// accepted.
std::string error_of(const Variable& input, const Placements& gradient) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable y = tape.output(input.value(), Placements(), {&input, 1});
  tape.record("some_op", {input}, {y}, [&](const BackwardContext& context) {
    context.accumulate(0, context.output_gradient(), gradient);
  });
  return internal_error_of([&] { tape.backward(y, random_tensor(input.shape(), 9)); });
}

TEST(Placement, OfAnActivationsGradientMustBeTheDual) {
  const Placement all[] = {Placement::invariant(), Placement::replicated(), Placement::partial(),
                           Placement::sharded(0), Placement::sharded(1)};
  for (const Axis axis : kAxes)
    for (const Placement value : all)
      for (const Placement gradient : all) {
        const Variable x(random_tensor({2, 3}, 1), Placements().with(axis, value), true);
        const std::string error = error_of(x, Placements().with(axis, gradient));
        if (gradient == value.gradient()) {
          EXPECT_EQ(error, "no error");
        } else {
          EXPECT_NE(error.find("some_op: gradient of input 0"), std::string::npos) << error;
          EXPECT_NE(error.find(str(name_of(axis), ' ', gradient)), std::string::npos) << error;
        }
      }
}

TEST(Placement, OfAParametersGradientIsRecordedAndMustStayTheSame) {
  const Variable w = random_parameter("w", {2, 3}, 1);
  const Placements partial = Placements().with(Axis::data, Placement::partial());
  EXPECT_EQ(error_of(w, partial), "no error");
  EXPECT_EQ(*w.gradient_placements(), partial);
  EXPECT_NE(error_of(w, Placements()).find("gradient of input 0 w is placed"), std::string::npos);
  w.set_gradient_placements(Placements());
  EXPECT_EQ(*w.gradient_placements(), Placements());
  w.clear_gradient();
  EXPECT_NE(internal_error_of([&] {
              w.set_gradient_placements(partial);
            }).find("no gradient has arrived for w"),
            std::string::npos);
}

}  // namespace
}  // namespace filigree::testing
