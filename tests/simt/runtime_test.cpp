// The emulated runtime: allocation in stream order, pinned memory, graphs, several devices.
#include <thread>

#include "tests/simt/fixture.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

constexpr int kCount = 100;
constexpr std::size_t kBytes = kCount * sizeof(float);

class Runtime : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { simt::reset(seeded(GetParam())); }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Runtime, testing::Range(0, 5));

class Event {
 public:
  Event() { EXPECT_EQ(cudaEventCreate(&event_), cudaSuccess); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// later waits for all that earlier holds now.
void order(const Event& event, const Stream& earlier, const Stream& later) {
  EXPECT_EQ(cudaEventRecord(event, earlier), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(later, event, 0), cudaSuccess);
}

TEST_P(Runtime, EventsOrderStreams) {
  Stream first, second;
  Event event;
  const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), first), middle(kCount),
      to(kCount);
  scale(from.get(), middle.get(), 2.0f, kCount, first);
  order(event, first, second);
  scale(middle.get(), to.get(), 3.0f, kCount, second);
  EXPECT_EQ(to.read(second), std::vector<float>(kCount, 10.0f));
}

TEST_P(Runtime, EventsSayWhenTheyAreReached) {
  Stream stream;
  Event begin, end;
  const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), stream), to(kCount);
  ASSERT_EQ(cudaEventRecord(begin, stream), cudaSuccess);
  scale(from.get(), to.get(), 2.0f, kCount, stream);
  ASSERT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  float milliseconds = -1.0f;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  int questions = 0;
  while (cudaEventQuery(end) == cudaErrorNotReady) ASSERT_LT(++questions, 100);
  EXPECT_GT(questions, 0);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0.0f);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST_P(Runtime, AllocatesAndFreesInStreamOrder) {
  Stream stream;
  const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), stream), to(kCount);
  void* middle = nullptr;
  ASSERT_EQ(cudaMallocAsync(&middle, kBytes, stream), cudaSuccess);
  scale(from.get(), static_cast<float*>(middle), 2.0f, kCount, stream);
  scale(static_cast<float*>(middle), to.get(), 3.0f, kCount, stream);
  ASSERT_EQ(cudaFreeAsync(middle, stream), cudaSuccess);
  EXPECT_EQ(to.read(stream), std::vector<float>(kCount, 10.0f));
  EXPECT_EQ(cudaFreeAsync(middle, stream), cudaErrorInvalidValue) << "freed twice";
}

TEST_P(Runtime, FreeingInStreamOrderRacesWithAnotherStreamsUse) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  const std::string message = fault_of([] {
    Stream first, second;
    Event event;
    const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), first), to(kCount);
    void* middle = nullptr;
    ASSERT_EQ(cudaMallocAsync(&middle, kBytes, first), cudaSuccess);
    scale(from.get(), static_cast<float*>(middle), 2.0f, kCount, first);
    order(event, first, second);
    scale(static_cast<float*>(middle), to.get(), 3.0f, kCount, second);
    ASSERT_EQ(cudaFreeAsync(middle, first), cudaSuccess);  // second may not have read it yet
    first.synchronize();
    second.synchronize();
  });
  EXPECT_NE(message, "");
}

TEST_P(Runtime, PinnedSourcesAreReadWhenTheCopyRuns) {
  Stream stream;
  const DeviceArray<float> to(1), also(1);
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof(float)), cudaSuccess);
  auto* const source = static_cast<float*>(pinned);
  float pageable = 1.0f;
  *source = 1.0f;
  ASSERT_EQ(cudaMemcpyAsync(to.get(), source, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(also.get(), &pageable, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  *source = pageable = 2.0f;
  EXPECT_EQ(to.read(stream)[0], 2.0f) << "overwritten too early";
  EXPECT_EQ(also.read(stream)[0], 1.0f);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaErrorInvalidValue) << "freed twice";
}

TEST_P(Runtime, ACopyToTheHostArrivesWhenTheStreamIsWaitedFor) {
  Stream stream;
  const DeviceArray<float> from(std::vector<float>(1, 5.0f), stream);
  stream.synchronize();
  float to = 5.0f;
  ASSERT_EQ(cudaMemcpyAsync(&to, from.get(), 4, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_NE(to, 5.0f) << "a read without waiting must not find the right value by luck";
  stream.synchronize();
  EXPECT_EQ(to, 5.0f);
  float at_once = 0.0f;
  ASSERT_EQ(cudaMemcpy(&at_once, from.get(), 4, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(at_once, 5.0f);
}

TEST(RuntimeDeathTest, TheHostCannotReadDeviceMemory) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        simt::reset(seeded(0));
        const DeviceArray<float> values(4);
        const volatile float* const pointer = values.get();
        const float value = *pointer;
        static_cast<void>(value);
      },
      "the host touched device memory directly");
}

// to = 5 (2 from + 1) + 1 on one stream beside also = 3 (2 from + 1) + 1 on another.
class Captured {
 public:
  explicit Captured(bool second_waits = true)
      : from(std::vector<float>(kCount, 1.0f), first), middle(kCount), to(kCount), also(kCount) {
    first.synchronize();
    EXPECT_EQ(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal), cudaSuccess);
    if (!second_waits) order(fork, first, second);
    scale(from.get(), middle.get(), 2.0f, kCount, first);
    if (second_waits) order(fork, first, second);
    scale(middle.get(), to.get(), 5.0f, kCount, first);
    scale(middle.get(), also.get(), 3.0f, kCount, second);
  }
  cudaGraphExec_t executable() {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaSuccess);
    cudaGraphExec_t result = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&result, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return result;
  }

  Stream first, second;
  Event fork, join;
  const DeviceArray<float> from, middle, to, also;
};

TEST_P(Runtime, GraphsRunWhatWasCapturedAgainAndAgain) {
  Captured work;
  order(work.join, work.second, work.first);
  const cudaGraphExec_t graph = work.executable();
  for (const float value : {1.0f, 2.0f}) {
    const std::vector<float> values(kCount, value);
    ASSERT_EQ(
        cudaMemcpyAsync(work.from.get(), values.data(), kBytes, cudaMemcpyHostToDevice, work.first),
        cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(graph, work.first), cudaSuccess);
    EXPECT_EQ(work.to.read(work.first),
              std::vector<float>(kCount, 5.0f * (2.0f * value + 1.0f) + 1.0f));
    EXPECT_EQ(work.also.read(work.first),
              std::vector<float>(kCount, 3.0f * (2.0f * value + 1.0f) + 1.0f));
  }
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_P(Runtime, GraphsReadPinnedMemoryAtEveryLaunch) {
  void* pinned = nullptr;
  ASSERT_EQ(cudaHostAlloc(&pinned, kBytes, cudaHostAllocDefault), cudaSuccess);
  auto* const values = static_cast<float*>(pinned);
  Captured work;
  order(work.join, work.second, work.first);
  ASSERT_EQ(cudaMemcpyAsync(work.also.get(), values, kBytes, cudaMemcpyHostToDevice, work.first),
            cudaSuccess);
  const cudaGraphExec_t graph = work.executable();
  for (const float value : {1.0f, 2.0f}) {
    std::fill_n(values, kCount, value);
    ASSERT_EQ(cudaGraphLaunch(graph, work.first), cudaSuccess);
    EXPECT_EQ(work.also.read(work.first), std::vector<float>(kCount, value));
  }
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_P(Runtime, CountsHowOftenTheHostWaits) {
  const Stream stream;
  const DeviceArray<float> values(kCount);
  const std::uint64_t before = simt::host_waits();
  ASSERT_EQ(cudaMemsetAsync(values.get(), 0, kBytes, stream), cudaSuccess);
  EXPECT_EQ(simt::host_waits(), before);
  stream.synchronize();
  EXPECT_EQ(simt::host_waits(), before + 1);
}

TEST_P(Runtime, AGraphThatLacksAnEdgeIsARace) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  const std::string message = fault_of([] {
    Captured work(false);
    order(work.join, work.second, work.first);
    const cudaGraphExec_t graph = work.executable();
    ASSERT_EQ(cudaGraphLaunch(graph, work.first), cudaSuccess);
    work.first.synchronize();
  });
  EXPECT_NE(message.find("race in device memory"), std::string::npos) << message;
}

TEST_P(Runtime, WhatMayNotBeCapturedSaysSo) {
  cudaGraph_t graph = nullptr;
  {
    Captured work;  // the second stream never comes back
    EXPECT_EQ(cudaStreamEndCapture(work.first, &graph), cudaErrorStreamCaptureUnjoined);
  }
  {
    Captured work;
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamSynchronize(work.first), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(work.first, &graph), cudaErrorStreamCaptureInvalidated);
  }
  {
    Captured work;
    std::vector<float> pageable(kCount);
    EXPECT_EQ(cudaMemcpyAsync(pageable.data(), work.from.get(), kBytes, cudaMemcpyDeviceToHost,
                              work.first),
              cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(work.first, &graph), cudaErrorStreamCaptureInvalidated);
  }
  Stream stream;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnmatched);
  while (cudaGetLastError() != cudaSuccess) {
  }
}

TEST_P(Runtime, ACaptureForbidsOtherThreadsAsMuchAsItsModeSays) {
  for (const auto& [mode, expected] :
       {std::pair{cudaStreamCaptureModeGlobal, cudaErrorStreamCaptureUnsupported},
        std::pair{cudaStreamCaptureModeThreadLocal, cudaSuccess},
        std::pair{cudaStreamCaptureModeRelaxed, cudaSuccess}}) {
    Stream stream;
    ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
    std::thread([expected = expected] {
      void* memory = nullptr;
      EXPECT_EQ(cudaMalloc(&memory, 16), expected);
      EXPECT_EQ(cudaFree(memory), memory == nullptr ? cudaSuccess : expected);
      cudaGetLastError();
    }).join();
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

// The host has seen the end of the second stream's kernel, not of the first one's.
TEST_P(Runtime, WhatTheHostHasSeenIsOrderedThoughOthersAreNot) {
  Stream first, second, third;
  Event done;
  const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), first), one(kCount),
      other(kCount);
  first.synchronize();
  scale(from.get(), one.get(), 2.0f, kCount, first);
  scale(from.get(), other.get(), 2.0f, kCount, second);
  ASSERT_EQ(cudaEventRecord(done, second), cudaSuccess);
  while (cudaStreamQuery(second) == cudaErrorNotReady || cudaEventQuery(done) != cudaSuccess) {
  }
  for (int i = 0; i < 8; ++i) cudaEventQuery(done);  // runs what is left
  scale(from.get(), other.get(), 3.0f, kCount, third);
  EXPECT_EQ(other.read(third), std::vector<float>(kCount, 4.0f));
}

// A watchdog's thread asks until the first stream is done. That orders nothing, since the thread
// that enqueues has not seen it.
TEST_P(Runtime, WhatAnotherThreadHasSeenOrdersNothing) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  const std::string message = fault_of([] {
    Stream first, second;
    Event done;
    const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), first), to(kCount);
    scale(from.get(), to.get(), 2.0f, kCount, first);
    ASSERT_EQ(cudaEventRecord(done, first), cudaSuccess);
    std::thread([&] {
      while (cudaEventQuery(done) == cudaErrorNotReady) {
      }
    }).join();
    scale(to.get(), to.get(), 3.0f, kCount, second);
    second.synchronize();
  });
  EXPECT_NE(message.find("race in device memory"), std::string::npos) << message;
}

TEST(Devices, AStreamBelongsToOne) {
  simt::Options options = seeded(0);
  options.devices = 2;
  simt::reset(options);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  {
    Stream stream;
    const DeviceArray<float> from(std::vector<float>(kCount, 1.0f), stream), to(kCount);
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    const std::string message =
        fault_of([&] { scale(from.get(), to.get(), 2.0f, kCount, stream); });
    EXPECT_NE(message.find("the stream belongs to device 1, current is device 0"),
              std::string::npos)
        << message;
  }
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
}

// As ranks do that are threads of one process.
TEST(Devices, ThreadsWorkOnTheirOwn) {
  simt::Options options = seeded(3);
  options.devices = 3;
  simt::reset(options);
  std::vector<std::thread> ranks;
  std::vector<std::vector<float>> results(3);
  for (int rank = 0; rank < 3; ++rank)
    ranks.emplace_back([rank, &results] {
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      Stream stream;
      const DeviceArray<float> from(std::vector<float>(kCount, float(rank)), stream), to(kCount);
      scale(from.get(), to.get(), 2.0f, kCount, stream);
      results[static_cast<std::size_t>(rank)] = to.read(stream);
    });
  for (std::thread& rank : ranks) rank.join();
  for (int rank = 0; rank < 3; ++rank)
    EXPECT_EQ(results[static_cast<std::size_t>(rank)],
              std::vector<float>(kCount, 2.0f * float(rank) + 1.0f));
}

}  // namespace
}  // namespace simt_test
