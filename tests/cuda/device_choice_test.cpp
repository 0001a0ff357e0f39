// The choice of a device where the program has the CUDA backend.
#include <gtest/gtest.h>

#include <array>
#include <simt/launch.hpp>

#include "launch/device.hpp"
#include "parallel/run_ranks.hpp"
#include "runtime/core/error.hpp"
#include "runtime/cuda/cuda_device.hpp"
#include "runtime/training/agreement.hpp"

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

TEST(CommunicatorFor, ReachesWhatTheContextHas) {
  simt::reset({.devices = 2});
  run_ranks(2, [](const std::shared_ptr<Communicator>& hosts) {
    const auto timeout = std::chrono::seconds(20);
    EXPECT_EQ(communicator_for(make_context({}, 1), hosts, timeout), hosts);
    const ExecutionContext context = make_context({DeviceKind::cuda, hosts->rank()}, 1);
    const auto world = communicator_for(context, hosts, timeout);
    const Tensor x = context.upload(Tensor::from<float>({2}, std::array{1.0F, 2.0F}));
    world->all_reduce(x);
    EXPECT_EQ(context.download(x).data<float>()[1], 4.0F);
  });
}

TEST(CommunicatorFor, TwoRanksOnOneGpuAreRefusedByAll) {
  simt::reset({.devices = 2});
  EXPECT_THROW(run_ranks(2,
                         [](const std::shared_ptr<Communicator>& hosts) {
                           communicator_for(make_context({DeviceKind::cuda, 0}, 1), hosts,
                                            std::chrono::seconds(20));
                         }),
               AgreedError);
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
