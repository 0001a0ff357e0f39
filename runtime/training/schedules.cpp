#include "runtime/training/schedules.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

double cosine_factor(const ScheduleConfig& config, std::int64_t steps, std::int64_t step) {
  const double progress =
      static_cast<double>(step - config.warmup_steps) /
      static_cast<double>(std::max<std::int64_t>(1, steps - config.warmup_steps));
  const double fall = (1.0 + std::cos(std::numbers::pi * std::min(progress, 1.0))) / 2.0;
  return config.final_fraction + (1.0 - config.final_fraction) * fall;
}

double wsd_factor(const ScheduleConfig& config, std::int64_t steps, std::int64_t step) {
  const std::int64_t into_decay = step - (steps - config.decay_steps);
  if (into_decay <= 0) return 1.0;
  const double progress = static_cast<double>(into_decay) / static_cast<double>(config.decay_steps);
  return 1.0 - (1.0 - config.final_fraction) * std::min(progress, 1.0);
}

double constant_factor(const ScheduleConfig&, std::int64_t, std::int64_t) { return 1.0; }

struct Kind {
  const char* name;
  // Fraction of the peak after warm-up.
  double (*factor)(const ScheduleConfig&, std::int64_t steps, std::int64_t step);
};
constexpr Kind kKinds[] = {
    {"cosine", cosine_factor}, {"wsd", wsd_factor}, {"constant", constant_factor}};

const Kind* find_kind(const std::string& name) {
  const auto found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](const Kind& kind) { return kind.name == name; });
  return found == std::end(kKinds) ? nullptr : found;
}

void check(const ScheduleConfig& config, double peak, std::int64_t steps) {
  if (find_kind(config.kind) == nullptr) {
    const std::string near = nearest_name(config.kind, schedule_kinds());
    throw UserError(str("schedule.kind is '", config.kind, "'; allowed: cosine, wsd, constant",
                        near.empty() ? "" : str(" (did you mean '", near, "'?)")));
  }
  if (!(std::isfinite(peak) && peak >= 0))
    throw UserError(str("optimizer.learning_rate is ", peak, "; it must be 0 or more"));
  if (steps < 1) throw UserError(str("train.steps is ", steps, "; it must be at least 1"));
  if (config.warmup_steps < 0 || config.warmup_steps > steps)
    throw UserError(str("schedule.warmup_steps is ", config.warmup_steps,
                        "; allowed: 0 to train.steps = ", steps,
                        "; shorten the warm-up or train longer"));
  if (!(config.final_fraction >= 0.0 && config.final_fraction <= 1.0))
    throw UserError(str("schedule.final_fraction is ", config.final_fraction, "; allowed: 0 to 1"));
  if (config.decay_steps < 0)
    throw UserError(str("schedule.decay_steps is ", config.decay_steps, "; it must be 0 or more"));
  if (config.kind == "wsd" && config.warmup_steps + config.decay_steps > steps)
    throw UserError(str("schedule.warmup_steps ", config.warmup_steps, " and schedule.decay_steps ",
                        config.decay_steps, " together exceed train.steps = ", steps,
                        "; shorten one of them or train longer"));
}

}  // namespace

const std::vector<std::string>& schedule_kinds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Kind& kind : kKinds) result.emplace_back(kind.name);
    return result;
  }();
  return names;
}

Schedule::Schedule(const ScheduleConfig& config, double peak, std::int64_t steps)
    : config_(config), peak_(peak), steps_(steps) {
  check(config_, peak_, steps_);
  if (config_.kind == "wsd" && config_.decay_steps == 0)
    config_.decay_steps = std::clamp<std::int64_t>(steps_ / 5, 1, steps_);
}

double Schedule::rate(std::int64_t step) const {
  FILIGREE_CHECK(step >= 1, "step ", step, " of a schedule that starts at 1");
  if (step <= config_.warmup_steps)
    return peak_ * static_cast<double>(step) / static_cast<double>(config_.warmup_steps);
  return peak_ * find_kind(config_.kind)->factor(config_, steps_, step);
}

}  // namespace filigree
