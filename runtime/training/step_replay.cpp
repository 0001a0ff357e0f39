#include "runtime/training/step_replay.hpp"

#include <algorithm>
#include <utility>

#include "runtime/core/trace.hpp"

namespace filigree {
namespace {

constexpr std::size_t kMostCaptures = 4;

// While this lives the context's memory is that of steps.
class StepMemory {
 public:
  explicit StepMemory(ExecutionContext& context)
      : context_(context), outside_(std::exchange(context.allocator, context.step_allocator)) {}
  ~StepMemory() { context_.allocator = std::move(outside_); }
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

 private:
  ExecutionContext& context_;
  std::shared_ptr<Allocator> outside_;
};

}  // namespace

void StepReplay::run_once(std::int64_t step, const Enqueue& enqueue) const {
  const StepMemory memory(context_);
  enqueue(StepNumber(step));
}

void StepReplay::run(std::int64_t step, const Enqueue& enqueue) {
  const auto serves = [&](const Capture& capture) { return capture.record->advance(step); };
  const auto found = std::find_if(captures_.begin(), captures_.end(), serves);
  if (found != captures_.end()) {
    std::rotate(captures_.begin(), found, found + 1);
    ++replayed_;
    return launch(captures_.front());
  }
  const std::unique_ptr<StepRecord> before = std::move(candidate_);
  if (before && before->advance(step)) return capture(step, enqueue);
  const StepMemory memory(context_);
  candidate_ = std::make_unique<StepRecord>();
  enqueue(StepNumber(step, *candidate_));
}

void StepReplay::capture(std::int64_t step, const Enqueue& enqueue) {
  if (captures_.size() == kMostCaptures) captures_.pop_back();
  Capture capture;
  capture.record = std::make_unique<StepRecord>();
  context_.settle_work();
  const WorkLog before = std::exchange(context_.work, {});
  context_.stream->begin_capture();
  try {
    const StepMemory memory(context_);
    enqueue(StepNumber(step, *capture.record));
  } catch (...) {
    context_.work = before;
    try {
      context_.stream->end_capture();
    } catch (const InternalError&) {  // follows from the first, which says more
    }
    throw;
  }
  capture.work = context_.stream->end_capture();
  capture.counted = std::exchange(context_.work, before);
  for (PartUsage& part : capture.counted.parts) part.seconds = 0.0;  // were spent capturing
  capture.uncounted = std::exchange(context_.uncounted, {});
  captures_.insert(captures_.begin(), std::move(capture));
  ++captured_;
  launch(captures_.front());
}

void StepReplay::launch(const Capture& capture) {
  const TraceRange range("replay");
  context_.settle_work();
  capture.work->launch(*context_.stream);
  context_.work += capture.counted;
  context_.uncounted = capture.uncounted;
}

}  // namespace filigree
