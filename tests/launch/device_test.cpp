// The choice of a device in a program without the CUDA backend; tests/cuda has it with one.
#include "launch/device.hpp"

#include <gtest/gtest.h>

#include "runtime/core/error.hpp"
#include "runtime/cuda/cuda_device.hpp"
#include "runtime/training/memory_report.hpp"

namespace filigree {
namespace {

TEST(ChooseDevice, WithoutCudaSaysHowToBuildIt) {
  ASSERT_FALSE(built_with_cuda());
  try {
    (void)choose_device("cuda");
    ADD_FAILURE() << "a GPU was chosen";
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find("device cuda: this filigree was built without CUDA; "), 0u) << message;
    EXPECT_NE(message.find("cmake --preset cuda-release"), std::string::npos) << message;
  }
}

TEST(ChooseDevice, AutoTakesTheCpuAndSaysWhy) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_device("auto"), Device{});
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("filigree: device auto: the CPU; this filigree was built without CUDA"), 0u)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(ChooseDevice, CpuNeedsNothing) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(choose_device("cpu"), Device{});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(MakeContext, CountsMemoryOfItsOwn) {
  const ExecutionContext one = make_context({}, 3), other = make_context({}, 1);
  EXPECT_EQ(one.num_threads, 3);
  const Tensor held = one.empty({1000}, DType::f32);
  EXPECT_GE(counting_allocator(one).peak_bytes(), held.bytes());
  EXPECT_EQ(counting_allocator(other).peak_bytes(), 0);
}

}  // namespace
}  // namespace filigree
