#include "runtime/training/schedules.hpp"

#include <gtest/gtest.h>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

ScheduleConfig schedule(const std::string& kind, std::int64_t warmup, std::int64_t decay,
                        double final) {
  ScheduleConfig config;
  config.kind = kind;
  config.warmup_steps = warmup;
  config.decay_steps = decay;
  config.final_fraction = final;
  return config;
}

void expect_refused(const ScheduleConfig& config, double peak, std::int64_t steps,
                    const std::string& part) {
  try {
    Schedule(config, peak, steps);
    ADD_FAILURE() << "accepted; expected an error about " << part;
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Schedule, WarmsUpLinearly) {
  for (const std::string& kind : schedule_kinds()) {
    const Schedule rates(schedule(kind, 4, 4, 0.1), 2.0, 20);
    EXPECT_DOUBLE_EQ(rates.rate(1), 0.5) << kind;
    EXPECT_DOUBLE_EQ(rates.rate(3), 1.5) << kind;
    EXPECT_DOUBLE_EQ(rates.rate(4), 2.0) << kind;
  }
}

TEST(Schedule, CosineFallsFromThePeakToTheFinalFraction) {
  const Schedule rates(schedule("cosine", 10, 0, 0.1), 1.0, 110);
  EXPECT_DOUBLE_EQ(rates.rate(10), 1.0);
  EXPECT_NEAR(rates.rate(35), 0.1 + 0.9 * 0.5 * (1 + 0.70710678118654752), 1e-15);  // cos(pi/4)
  EXPECT_NEAR(rates.rate(60), 0.55, 1e-15);
  EXPECT_NEAR(rates.rate(110), 0.1, 1e-15);
}

TEST(Schedule, WsdIsFlatThenLinear) {
  const Schedule rates(schedule("wsd", 2, 4, 0.2), 1.0, 20);
  EXPECT_DOUBLE_EQ(rates.rate(3), 1.0);
  EXPECT_DOUBLE_EQ(rates.rate(16), 1.0);
  EXPECT_DOUBLE_EQ(rates.rate(17), 0.8);
  EXPECT_DOUBLE_EQ(rates.rate(18), 0.6);
  EXPECT_DOUBLE_EQ(rates.rate(20), 0.2);
}

TEST(Schedule, WsdDecaysOverAFifthByDefault) {
  const Schedule rates(schedule("wsd", 0, 0, 0.0), 1.0, 50);
  EXPECT_DOUBLE_EQ(rates.rate(40), 1.0);
  EXPECT_DOUBLE_EQ(rates.rate(45), 0.5);
  EXPECT_DOUBLE_EQ(rates.rate(50), 0.0);
}

TEST(Schedule, ConstantStaysAtThePeak) {
  const Schedule rates(schedule("constant", 0, 0, 0.1), 3e-4, 7);
  EXPECT_EQ(rates.rate(1), 3e-4);
  EXPECT_EQ(rates.rate(7), 3e-4);
}

TEST(Schedule, RefusesWhatDoesNotFitAndNamesIt) {
  expect_refused(schedule("cosin", 0, 0, 0), 1, 10, "did you mean 'cosine'");
  expect_refused(schedule("cosine", 11, 0, 0), 1, 10, "schedule.warmup_steps is 11");
  expect_refused(schedule("wsd", 6, 5, 0), 1, 10, "together exceed train.steps = 10");
  expect_refused(schedule("cosine", 0, 0, 1.5), 1, 10, "schedule.final_fraction is 1.5");
  expect_refused(schedule("cosine", 0, 0, 0), -1, 10, "optimizer.learning_rate is -1");
}

}  // namespace
}  // namespace filigree
