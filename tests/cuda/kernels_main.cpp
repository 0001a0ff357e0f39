// The parity tests of tests/kernels with the CUDA implementations in the table, run by the emulator
// or by a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "runtime/core/error.hpp"
#include "tests/cuda/fresh_gpu.hpp"
#include "tests/harness/kernel_parity.hpp"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // Without them every comparison would pass by comparing nothing.
  const auto swiglu = filigree::kernel_table().names().at("swiglu_forward");
  if (std::find(swiglu.begin(), swiglu.end(), "cuda") == swiglu.end()) {
    std::fprintf(stderr, "the table of kernels has no CUDA implementations\n");
    return 1;
  }
  filigree::testing::accelerator() = [](int run) {
    return filigree::testing::fresh_gpu(static_cast<std::uint64_t>(run));
  };
  try {
    if (!GTEST_FLAG_GET(list_tests)) filigree::cuda_devices();
  } catch (const filigree::UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.code();
  }
  return RUN_ALL_TESTS();
}
