// Runs the work of training steps on an accelerator: as it is enqueued by the layers, or by
// launching again what was captured from an earlier step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/core/execution.hpp"
#include "runtime/core/step_number.hpp"

namespace filigree {

// What a step enqueues follows from its number through StepNumber only, so that it is known which
// captured work serves it. A step for which there is none is enqueued; when the next one comes to
// the same decisions, that one is captured. A few captures are kept, for steps that take turns.
//
// All memory that steps take comes from the context's step_allocator, so that captures share what
// they need, and nothing that the rest of the program keeps can lie in it.
class StepReplay {
 public:
  using Enqueue = std::function<void(const StepNumber&)>;

  explicit StepReplay(ExecutionContext& context) : context_(context) {}

  // The work of step `step`. `enqueue` must not wait for what it enqueues, nor leave anything in
  // the context's memory that is taken up after the step.
  void run(std::int64_t step, const Enqueue& enqueue);
  // The same for a step that may: it is enqueued, and not captured.
  void run_once(std::int64_t step, const Enqueue& enqueue) const;

  std::int64_t captured() const { return captured_; }  // steps so far
  std::int64_t replayed() const { return replayed_; }

 private:
  // The addresses of what is captured stay valid as long as this lives.
  struct Capture {
    std::unique_ptr<StepRecord> record;
    std::unique_ptr<CapturedWork> work;
    WorkLog counted;
    UncountedWork uncounted;
  };
  void capture(std::int64_t step, const Enqueue& enqueue);
  void launch(const Capture& capture);

  ExecutionContext& context_;
  std::vector<Capture> captures_;          // the one that was launched last comes first
  std::unique_ptr<StepRecord> candidate_;  // of the step before, where that was enqueued
  std::int64_t captured_ = 0, replayed_ = 0;
};

}  // namespace filigree
