// The parity tests of tests/kernels with the CUDA implementations in the table, run by the
// emulator.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
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
  // Without them every comparison would pass by comparing nothing.
  const auto& swiglu = filigree::kernel_table().names().at("swiglu_forward");
  if (std::find(swiglu.begin(), swiglu.end(), "cuda") == swiglu.end()) {
    std::fprintf(stderr, "the table of kernels has no CUDA implementations\n");
    return 1;
  }
  return RUN_ALL_TESTS();
}
