// Planted mistakes in kernels and in their use: each one must end in a fault that says what and
// where.
#include <cmath>

#include "tests/simt/fixture.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

// Mistakes that only show where every load and store is seen.
class EveryAccess : public testing::Test {
 protected:
  void SetUp() override {
    if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  }
};

auto row_sums_with(Mistake mistake) {
  return [mistake] {
    Stream stream;
    const DeviceArray<float> in(random_floats(300, 1), stream), sums(3);
    row_sums(in.get(), sums.get(), 3, 100, stream, mistake);
    stream.synchronize();
  };
}

TEST_F(EveryAccess, MissingBarrier) {
  expect_fault(row_sums_with(Mistake::no_barrier), {"row_sums_kernel", "block (", "thread "});
}

TEST_F(EveryAccess, MissingBarrierInATranspose) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<float> in(random_floats(1024, 1), stream), out(1024);
        transpose(in.get(), out.get(), 32, 32, stream, Mistake::no_barrier);
        stream.synchronize();
      },
      {"transpose_kernel", "shared memory"});
}

TEST_F(EveryAccess, MissingWarpBarrier) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<int> in(std::vector<int>(64, 1), stream), out(64);
        warp_rotate(in.get(), out.get(), 64, stream, Mistake::no_warp_barrier);
        stream.synchronize();
      },
      {"warp_rotate_kernel", "shared memory"});
}

TEST_F(EveryAccess, SharedWriteOutOfBounds) {
  expect_fault(row_sums_with(Mistake::one_too_far),
               {"writes bytes 512 to 515 of shared memory, of which the block has 512"});
}

TEST_F(EveryAccess, UninitialisedSharedMemory) {
  expect_fault(row_sums_with(Mistake::uninitialised),
               {"reads byte 308 of shared memory, which nobody has written"});
}

TEST_F(EveryAccess, WriteBehindAnAllocation) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<float> in(random_floats(31 * 32, 1), stream), out(31 * 32);
        transpose(in.get(), out.get(), 31, 32, stream, Mistake::one_too_far);
        stream.synchronize();
      },
      {"transpose_kernel"});
}

TEST_F(EveryAccess, RaceBetweenBlocks) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<float> to(1);
        race_in_device_memory(to.get(), stream);
        stream.synchronize();
      },
      {"race in device memory", "thread 0 of block ("});
}

TEST_F(EveryAccess, HostPointerInAKernel) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<float> to(1);
        const std::vector<float> on_the_host(1, 2.0f);
        read_from(on_the_host.data(), to.get(), stream);
        stream.synchronize();
      },
      {"read_kernel", "a host pointer?"});
}

TEST_F(EveryAccess, UseAfterFree) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<float> to(1);
        float* gone = nullptr;
        ASSERT_EQ(cudaMalloc(&gone, 64), cudaSuccess);
        ASSERT_EQ(cudaFree(gone), cudaSuccess);
        read_from(gone, to.get(), stream);
        stream.synchronize();
      },
      {"reads 4 bytes at byte 0 of the 64 bytes", "has been freed"});
}

TEST_F(EveryAccess, MissingEventWait) {
  expect_fault(
      [] {
        Stream first, second;
        const DeviceArray<float> from(random_floats(100, 1), first), middle(100), to(100);
        scale(from.get(), middle.get(), 2.0f, 100, first);
        scale(middle.get(), to.get(), 3.0f, 100, second);
        first.synchronize();
        second.synchronize();
      },
      {"race in device memory", "scale_kernel", "no event or stream orders it"});
}

// The same mistakes under AddressSanitizer, which ends the process.
TEST(AddressDeathTest, SharedWriteOutOfBoundsAndUseAfterFree) {
  if (simt::sees_every_access()) GTEST_SKIP() << "the emulator's own instrumentation sees them";
  EXPECT_DEATH(row_sums_with(Mistake::one_too_far)(), "use-after-poison.*\n.*WRITE of size 4");
  EXPECT_DEATH(
      {
        Stream stream;
        const DeviceArray<float> to(1);
        float* gone = nullptr;
        cudaMalloc(&gone, 64);
        cudaFree(gone);
        read_from(gone, to.get(), stream);
        stream.synchronize();
      },
      "use-after-poison.*\n.*READ of size 4");
}

// CUDA allows 65535 blocks in y and z.
TEST(PlantedFault, GridTooLarge) {
  for (const dim3 grid : {dim3(1, 65536), dim3(1, 1, 65536)})
    expect_fault(
        [&] {
          Stream stream;
          const DeviceArray<int> to(24);
          write_positions(to.get(), grid, dim3(1), stream);
          stream.synchronize();
        },
        {"grid (1,", "65536", "allowed are 1 to 2147483647, 65535 and 65535"}, 1);
}

TEST(PlantedFault, DivergentBarrier) {
  expect_fault(row_sums_with(Mistake::divergent), {"__syncthreads", "row_sums_kernel"});
}

TEST(PlantedFault, ExitBeforeABarrier) {
  expect_fault(row_sums_with(Mistake::early_exit), {"exit", "__syncthreads"});
}

TEST(PlantedFault, PartialMask) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<int> in(std::vector<int>(32, 1), stream), out(32);
        warp_scan(in.get(), out.get(), 32, stream, Mistake::partial_mask);
        stream.synchronize();
      },
      {"warp_scan_kernel", "__shfl_up_sync"});
}

TEST(PlantedFault, BlocksThatWaitForEachOther) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<int> flags(3);
        ASSERT_EQ(cudaMemsetAsync(flags.get(), 0, 12, stream), cudaSuccess);
        wait_for_next_block(flags.get(), stream);
        stream.synchronize();
      },
      {"next_block_kernel", "spins for ever"}, 1);
}

TEST(PlantedFault, TooMuchSharedMemory) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<int> values(96);
        const DeviceArray<unsigned> counts(20000);
        histogram(values.get(), counts.get(), 96, 20000, stream);
      },
      {"histogram_kernel", "80000 bytes of dynamic shared memory; allowed are 49152"});
}

TEST(PlantedFault, DefaultStream) {
  expect_fault(
      [] {
        const DeviceArray<float> to(1);
        race_in_device_memory(to.get(), nullptr);
      },
      {"race_kernel", "default stream"});
}

TEST(PlantedFault, AfterAFaultTheDeviceStaysFailed) {
  simt::reset(seeded(0));
  Stream stream;
  const DeviceArray<float> in(random_floats(100, 1), stream), sums(1);
  row_sums(in.get(), sums.get(), 1, 100, stream, Mistake::early_exit);
  EXPECT_FALSE(fault_of([&] { stream.synchronize(); }).empty());
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace simt_test
