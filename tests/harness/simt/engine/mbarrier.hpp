// Barriers in shared memory, as copies use them too.
#pragma once

#include <cstddef>

#include "tests/harness/simt/engine/block.hpp"

namespace simt {

// The barrier that mbarrier.init has put at `pointer`; a fault when there is none.
Mbarrier& mbarrier_at(Block& block, const void* pointer, const char* instruction);

// `bytes` of a copy have landed by the hand of the running agent.
void mbarrier_landed(Block& block, std::uint32_t address, SharedRange range);

}  // namespace simt
