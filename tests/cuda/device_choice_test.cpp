// The choice of a device where the program has the CUDA backend.
#include <gtest/gtest.h>

#include <simt/launch.hpp>

#include "launch/device.hpp"
#include "runtime/core/error.hpp"
#include "runtime/cuda/cuda_device.hpp"

namespace filigree {
namespace {

std::string refusal(const std::string& wanted) {
  try {
    (void)choose_device(wanted);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

std::string said(const std::string& wanted, Device* chosen) {
  testing::internal::CaptureStderr();
  *chosen = choose_device(wanted);
  return testing::internal::GetCapturedStderr();
}

TEST(ChooseDevice, CudaIsTheFirstGpuOfAProcessOnItsOwn) {
  simt::reset({.devices = 2});
  ASSERT_TRUE(built_with_cuda());
  const Device first{DeviceKind::cuda, 0};
  EXPECT_EQ(choose_device("cuda"), first);
  EXPECT_EQ(make_context(first, 2).num_threads, 2);
  EXPECT_EQ(make_context(first, 2).device, first);
}

TEST(ChooseDevice, CudaWithoutAGpuSaysWhatTheDriverSaid) {
  simt::reset({.devices = 0});
  EXPECT_EQ(refusal("cuda").find("device cuda: no NVIDIA GPU can be used: CUDA says 'no CUDA"), 0u)
      << refusal("cuda");
}

TEST(ChooseDevice, AutoSaysWhatItTook) {
  simt::reset({});
  Device chosen;
  EXPECT_EQ(said("auto", &chosen), "filigree: device auto: GPU 0, SIMT emulator 0\n");
  EXPECT_EQ(chosen, (Device{DeviceKind::cuda, 0}));
  simt::reset({.devices = 0});
  const std::string text = said("auto", &chosen);
  EXPECT_EQ(text.find("filigree: device auto: the CPU; no NVIDIA GPU can be used: "), 0u) << text;
  EXPECT_EQ(chosen, Device{});
}

}  // namespace
}  // namespace filigree
