// The number of a training step as code sees it that may be captured and run again for other steps.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/core/execution.hpp"

namespace filigree {

// How the work of a step followed from its number: what StepNumber::decide and StepNumber::data
// were asked.
class StepRecord {
 public:
  // Whether the same work does for step `number`, with data of its own; these are then in place.
  // The work that was enqueued before must have run.
  bool advance(std::int64_t number) const;

 private:
  friend class StepNumber;
  std::vector<std::function<bool(std::int64_t)>> entries_;
};

// Work that is captured in one step and run again in another must not depend on the number of the
// first. So the number is not to be had: what follows from it is asked for by a function of the
// number, which is asked again for every other step. Functions that are handed over depend on
// nothing else that changes between steps, or on what is brought up to date before.
class StepNumber {
 public:
  // Of a step whose work runs once.
  StepNumber(std::int64_t number = 0) : number_(number) {}  // NOLINT(google-explicit-constructor)
  // Of a step whose work is to be run again; the record outlives it.
  StepNumber(std::int64_t number, StepRecord& record) : number_(number), record_(&record) {}

  // decide(number), of a type with ==: for the host, which must come to the same in other steps if
  // the work is to serve them.
  template <class Decide>
  auto decide(Decide decide) const {
    const auto decision = decide(number_);
    if (record_ != nullptr)
      record_->entries_.push_back(
          [decide, decision](std::int64_t number) { return decide(number) == decision; });
    return decision;
  }

  // make(number), a host tensor, in the context's memory. Its shape is a decision, its elements may
  // differ from step to step.
  Tensor data(const ExecutionContext& execution,
              const std::function<Tensor(std::int64_t)>& make) const;

  // For what is done in steps that run once only (measuring); throws InternalError in others.
  std::int64_t once() const;

 private:
  std::int64_t number_ = 0;
  StepRecord* record_ = nullptr;
};

}  // namespace filigree
