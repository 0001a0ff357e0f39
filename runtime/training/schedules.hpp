// Learning-rate schedules: pure functions of the step, so that nothing about them needs saving.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/training/config.hpp"

namespace filigree {

// The learning rate of step 1, 2, ..., steps of a run with peak rate P and W warm-up steps:
//   warm-up    P * step / W                                                  for step <= W
//   cosine     P * (f + (1 - f) * (1 + cos(pi * p)) / 2),  p = (step - W) / (steps - W)
//              (Loshchilov and Hutter 2017, one cycle), f = final_fraction
//   wsd        P until the last `decay_steps`, then linearly down to f * P at the last step
//              (warm-up-stable-decay, Hu et al. 2024, MiniCPM)
//   constant   P
class Schedule {
 public:
  // Throws UserError naming the option that does not fit.
  Schedule(const ScheduleConfig& config, double peak, std::int64_t steps);

  double rate(std::int64_t step) const;

 private:
  ScheduleConfig config_;
  double peak_;
  std::int64_t steps_;
};

const std::vector<std::string>& schedule_kinds();

}  // namespace filigree
