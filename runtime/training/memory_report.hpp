// Memory in words: what a run will need at least, and what it took.
#pragma once

#include <string>

#include "layers/parameter.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/training/optimizer.hpp"

namespace filigree {

// Parameters, gradients and optimizer state of this rank, and the host's copy of what it saves
// where that happens in the background: a share of the state among `savers` ranks that hold the
// same; 0: there is none.
std::string planned_memory_table(const ParameterStore& store, const AdamWOptimizer& optimizer,
                                 int savers);
// The allocator of a context that trains. Throws InternalError where it does not count.
const CachingAllocator& counting_allocator(const ExecutionContext& context);
// The most that was in use at once on the allocator's device, by use.
std::string peak_memory_table(const CachingAllocator& allocator);

}  // namespace filigree
