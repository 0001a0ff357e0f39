// The project's side of the CUDA runtime, on the emulator.
#include "runtime/cuda/cuda_device.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <simt/launch.hpp>

#include "kernels/elementwise/elementwise.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {
namespace {

void reset(const simt::Options& options = {}) { simt::reset(options); }

Tensor rising(std::int64_t count) {
  const Tensor values = Tensor::empty({count}, DType::f32);
  std::iota(values.span<float>().begin(), values.span<float>().end(), 1.0f);
  return values;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(CudaContext, CarriesTensorsThereAndBack) {
  reset();
  const ExecutionContext context = make_cuda_context(0);
  const Tensor values = rising(1000);
  const Tensor there = to_device(*context.stream, values, context.allocator);
  EXPECT_EQ(there.device(), (Device{DeviceKind::cuda, 0}));
  const Tensor back = to_host(*context.stream, there);
  EXPECT_EQ(std::memcmp(back.raw(), values.raw(), static_cast<std::size_t>(values.bytes())), 0);
  context.stream->fill(there.raw(), 0, there.bytes());
  const Tensor zeros = to_host(*context.stream, there);
  for (const float value : zeros.span<float>()) ASSERT_EQ(value, 0.0f);
}

TEST(CudaContext, RefusesThatTheHostTouchesItsElements) {
  reset();
  const ExecutionContext context = make_cuda_context(0);
  EXPECT_THROW(Tensor::zeros({3}, DType::f32, context.allocator), InternalError);
  EXPECT_THROW(context.empty({3}, DType::f32).to(DType::f64), InternalError);
  EXPECT_THROW(context.empty({3}, DType::f32).copy_from(rising(3)), InternalError);
}

TEST(CudaContext, ClearsAndCopiesInTheOrderOfItsWork) {
  reset();
  const ExecutionContext context = make_cuda_context(0);
  const Tensor there = context.upload(rising(3));
  EXPECT_TRUE(context.upload(there).shares_storage_with(there));
  const Tensor copy = context.clone(there);
  context.zero(there);
  const Tensor kept = context.download(copy), cleared = context.download(there);
  const Tensor zeros = context.download(context.zeros({3}, DType::f32));
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(kept.data<float>()[i], rising(3).data<float>()[i]);
    EXPECT_EQ(cleared.data<float>()[i], 0.0F);
    EXPECT_EQ(zeros.data<float>()[i], 0.0F);
  }
}

TEST(CudaContext, SaysWhichGpusThereAre) {
  reset({.devices = 2});
  EXPECT_EQ(cuda_devices().size(), 2u);
  EXPECT_EQ(cuda_devices()[1].name, "SIMT emulator 1");
  EXPECT_EQ(message_of([] { make_cuda_context(2); }),
            "GPU 2 does not exist: this process sees 2; CUDA_VISIBLE_DEVICES chooses which");
}

TEST(CudaContext, SaysWhyThereIsNoGpu) {
  reset({.devices = 0});
  EXPECT_EQ(message_of([] { make_cuda_context(0); }),
            "no NVIDIA GPU can be used: CUDA says 'no CUDA-capable device is detected'; nvidia-smi "
            "lists the GPUs of the driver, CUDA_VISIBLE_DEVICES hides some");
  EXPECT_EQ(
      why_no_gpu("insufficient", 12040, 13000),
      "no NVIDIA GPU can be used: CUDA says 'insufficient'; the driver is for CUDA 12.4, this "
      "build needs 13.0: install a newer driver, or build with an older toolkit");
  EXPECT_EQ(why_no_gpu("insufficient", 0, 13000),
            "no NVIDIA GPU can be used: CUDA says 'insufficient'; no NVIDIA driver was found: "
            "install one, or start the container with its GPUs (docker run --gpus all)");
}

TEST(CudaContext, GivesKeptBlocksBackBeforeItRunsOutOfMemory) {
  reset({.device_bytes = 1 << 20});
  ExecutionContext context = make_cuda_context(0);
  context.empty({600 << 10}, DType::u8);  // kept for its own size
  EXPECT_TRUE(context.empty({700 << 10}, DType::u8).defined());
  EXPECT_NE(message_of([&] { context.empty({2 << 20}, DType::u8); }).find("out of memory"),
            std::string::npos);
}

// Twice the values, on the context's GPU.
Tensor doubled(ExecutionContext& context, const Tensor& values) {
  const Tensor y = context.empty(values.shape(), DType::f32);
  dispatch<Add>({values, values, y}, context);
  return y;
}

TEST(CudaContext, OneThreadUsesSeveralGpus) {
  reset({.devices = 2});
  ExecutionContext first = make_cuda_context(0), second = make_cuda_context(1);
  const Tensor a = to_device(*first.stream, rising(300), first.allocator);
  const Tensor b = to_device(*second.stream, rising(300), second.allocator);
  const Tensor x = doubled(first, a), y = doubled(second, b);
  for (const Tensor& result : {to_host(*first.stream, x), to_host(*second.stream, y)})
    for (std::int64_t i = 0; i < 300; ++i)
      ASSERT_EQ(result.data<float>()[i], 2.0f * static_cast<float>(i + 1));
}

// What the second stream makes of what the first one makes.
std::string result_over_two_streams(int seed, bool waits) {
  reset({.seed = static_cast<std::uint64_t>(seed)});
  try {
    ExecutionContext first = make_cuda_context(0), second = make_cuda_context(0);
    const Tensor values = to_device(*first.stream, rising(300), first.allocator);
    const Tensor middle = doubled(first, values);
    CudaEvent event(*first.stream);
    event.record(*first.stream);
    if (waits) event.wait(*second.stream);
    const Tensor result = to_host(*second.stream, doubled(second, middle));
    first.stream->synchronize();  // a race shows once both sides of it have run
    return result.data<float>()[299] == 1200.0f ? "right" : "wrong";
  } catch (const simt::Fault& fault) {
    return fault.what();
  }
}

TEST(CudaEvent, OrdersTheWorkOfTwoStreams) {
  for (int seed = 0; seed < 5; ++seed) {
    EXPECT_EQ(result_over_two_streams(seed, true), "right");
    if (!simt::sees_every_access()) continue;
    const std::string unordered = result_over_two_streams(seed, false);
    EXPECT_NE(unordered.find("no event or stream orders it"), std::string::npos) << unordered;
  }
}

TEST(CheckCuda, NamesTheCallAndTheReason) {
  reset();
  try {
    FILIGREE_CHECK_CUDA(cudaSetDevice(7));
    ADD_FAILURE() << "device 7 was accepted";
  } catch (const InternalError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("cudaSetDevice(7): invalid device ordinal (cudaErrorInvalidDevice)"),
              std::string::npos)
        << message;
  }
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the error is reported once";
}

}  // namespace
}  // namespace filigree
