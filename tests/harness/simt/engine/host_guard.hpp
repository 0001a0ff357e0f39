// Explains a segmentation fault of the host that the emulator has provoked on purpose.
#pragma once

#include "tests/harness/simt/engine/device_memory.hpp"
#include "tests/harness/simt/engine/fibers.hpp"

namespace simt {

// Both must live as long as the process. The handler prints one line and aborts where the address
// lies in device memory or below a CUDA thread's stack; every other fault goes its usual way.
void install_host_guard(const DeviceMemory& memory, const StackPool& stacks);

// Gives the calling thread a stack for the handler, so that an overflow of its own can be reported.
void guard_this_thread();

}  // namespace simt
