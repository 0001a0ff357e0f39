// The parity tests of tests/kernels with the CUDA implementations in the table, run by the
// emulator.
#include <gtest/gtest.h>

#include <simt/launch.hpp>

#include "runtime/cuda/cuda_device.hpp"
#include "tests/harness/kernel_parity.hpp"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  filigree::testing::accelerator() = [](int run) {
    simt::Options options;
    options.seed = static_cast<std::uint64_t>(run);
    simt::reset(options);
    return filigree::make_cuda_context(0);
  };
  return RUN_ALL_TESTS();
}
