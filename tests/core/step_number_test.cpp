#include "runtime/core/step_number.hpp"

#include <gtest/gtest.h>

#include <array>

namespace filigree {
namespace {

Tensor one(std::int64_t value) { return Tensor::from<std::int64_t>({1}, std::array{value}); }

TEST(StepNumber, AnswersForTheStepAtHand) {
  const StepNumber step = 7;
  EXPECT_EQ(step.decide([](std::int64_t number) { return number > 5; }), true);
  EXPECT_EQ(*step.data({}, one).data<std::int64_t>(), 7);
  EXPECT_EQ(step.once(), 7);
}

TEST(StepNumber, ARecordHoldsForStepsThatDecideAlike) {
  StepRecord record;
  const StepNumber step(7, record);
  EXPECT_TRUE(record.advance(1)) << "nothing depends on the number yet";
  step.decide([](std::int64_t number) { return number > 5; });
  step.decide([](std::int64_t number) { return number / 10; });
  EXPECT_TRUE(record.advance(9));
  EXPECT_FALSE(record.advance(5));
  EXPECT_FALSE(record.advance(10));
  EXPECT_TRUE(record.advance(6)) << "a step that did not fit leaves no trace";
}

TEST(StepNumber, IsNotToBeHadWhereItIsRecorded) {
  StepRecord record;
  EXPECT_THROW(static_cast<void>(StepNumber(7, record).once()), InternalError);
}

}  // namespace
}  // namespace filigree
