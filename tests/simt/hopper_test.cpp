// Barriers, boxes and products of compute capability 9.0 against what the PTX ISA says of them,
// worked out by hand; and what becomes of mistakes.
#include <cmath>

#include "tests/simt/fixture.hpp"
#include "tests/simt/hopper_kernels.hpp"

namespace simt_test {
namespace {

class HopperEveryAccess : public testing::Test {
 protected:
  void SetUp() override {
    if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  }
};

std::vector<__nv_bfloat16> bfloat16s(std::size_t n, unsigned seed) {
  std::vector<__nv_bfloat16> values;
  for (const float v : random_floats(n, seed)) values.emplace_back(v);
  return values;
}

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  EXPECT_EQ(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                             cudaEnableDefault, &found),
            cudaSuccess);
  EXPECT_EQ(found, cudaDriverEntryPointSuccess);
  return reinterpret_cast<Encode>(function);
}

struct Tensor {  // bf16, contiguous, dims innermost first
  const void* data;
  cuuint64_t dims[4];
};

CUresult encode(CUtensorMap* map, const Tensor& tensor, cuuint32_t columns, cuuint32_t rows,
                CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
  const cuuint64_t strides[3] = {tensor.dims[0] * 2, tensor.dims[0] * tensor.dims[1] * 2,
                                 tensor.dims[0] * tensor.dims[1] * tensor.dims[2] * 2};
  const cuuint32_t box[4] = {columns, 1, rows, 1}, ones[4] = {1, 1, 1, 1};
  return encoder()(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(tensor.data),
                   tensor.dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                   CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

CUtensorMap map_of(const Tensor& tensor, cuuint32_t rows) {
  CUtensorMap map;
  EXPECT_EQ(encode(&map, tensor, 64, rows), CUDA_SUCCESS);
  return map;
}

TEST(TensorMap, RefusesWhatTheDriverRefuses) {
  simt::reset(seeded(0));
  const DeviceArray<__nv_bfloat16> data(4096);
  CUtensorMap map;
  EXPECT_EQ(encode(&map, {data.get(), {64, 2, 8, 1}}, 64, 8), CUDA_SUCCESS);
  EXPECT_EQ(encode(&map, {data.get() + 1, {64, 2, 8, 1}}, 64, 8), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, {data.get(), {60, 2, 8, 1}}, 64, 8), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, {data.get(), {0, 2, 8, 1}}, 64, 8), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, {data.get(), {64, 2, 8, 1}}, 64, 257), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, {data.get(), {64, 2, 8, 1}}, 72, 8), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(encode(&map, {data.get(), {64, 2, 8, 1}}, 72, 8, CU_TENSOR_MAP_SWIZZLE_NONE),
            CUDA_SUCCESS);
}

// Chunk c of row r of a box lies at c ^ r % 8; what is outside the tensor is zero.
TEST(TensorCopy, PermutesChunksByTheRowAndFillsWithZeros) {
  constexpr int kWidth = 72, kHeads = 3, kLength = 20, kBatch = 2, kRows = 16;
  const Box boxes[] = {{kRows, {0, 0, 0, 0}},  {kRows, {0, 2, 3, 1}},  {kRows, {64, 1, 7, 0}},
                       {kRows, {0, 1, 12, 1}}, {kRows, {8, 0, -5, 0}}, {kRows, {0, 0, 20, 1}}};
  for (int seed = 0; seed < 5; ++seed) {
    simt::reset(seeded(seed));
    Stream stream;
    const auto values = bfloat16s(kWidth * kHeads * kLength * kBatch, 1);
    const DeviceArray<__nv_bfloat16> data(values, stream);
    const CUtensorMap map = map_of({data.get(), {kWidth, kHeads, kLength, kBatch}}, kRows);
    for (const Box& box : boxes) {
      const DeviceArray<__nv_bfloat16> out(kRows * 64);
      copy_of_box(map, out.get(), box, stream);
      const auto got = out.read(stream);
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < 64; ++c) {
          const int column = box.at[0] + c, row = box.at[2] + r;
          const bool inside = column < kWidth && row >= 0 && row < kLength;
          const float expected =
              inside ? __bfloat162float(
                           values[((box.at[3] * kLength + row) * kHeads + box.at[1]) * kWidth +
                                  column])
                     : 0.0f;
          const int chunk = (c / 8) ^ (r % 8);
          ASSERT_EQ(__bfloat162float(got[r * 64 + chunk * 8 + c % 8]), expected)
              << "row " << r << " column " << c << " of the box at " << box.at[0] << ", "
              << box.at[1] << ", " << box.at[2] << ", " << box.at[3];
        }
    }
  }
}

auto box_with(HopperMistake mistake) {
  return [mistake] {
    Stream stream;
    const DeviceArray<__nv_bfloat16> data(bfloat16s(64 * 8, 1), stream), out(64 * 8);
    copy_of_box(map_of({data.get(), {64, 1, 8, 1}}, 8), out.get(), {8, {0, 0, 0, 0}}, stream,
                mistake);
    stream.synchronize();
  };
}

TEST(TensorCopy, TooManyBytesAnnouncedIsADeadlock) {
  expect_fault(box_with(HopperMistake::too_many_bytes),
               {"box_kernel", "wait for each other for ever", "mbarrier.try_wait for parity 0",
                "phase 0", "lacks 0 arrivals and 16 bytes"});
}

TEST(TensorCopy, TooFewBytesAnnouncedIsAFault) {
  expect_fault(box_with(HopperMistake::too_few_bytes),
               {"box_kernel", "16 bytes more than announced"});
}

TEST(TensorCopy, NeedsTheFenceOfItsBarrier) {
  expect_fault(box_with(HopperMistake::no_barrier_fence), {"without fence.mbarrier_init"});
}

TEST(TensorCopy, NeedsAnAlignedBox) {
  expect_fault(box_with(HopperMistake::misaligned),
               {"byte 128 of shared memory", "aligned to 1024"});
}

TEST_F(HopperEveryAccess, MissingWaitForABox) {
  expect_fault(box_with(HopperMistake::no_wait), {"asynchronous copy has not been waited for"});
}

TEST_F(HopperEveryAccess, WaitForTheWrongPhase) {
  expect_fault(box_with(HopperMistake::wrong_phase), {"asynchronous copy has not been waited for"});
}

TEST(Mbarrier, PhasesCarryARingOfBoxes) {
  constexpr int kBoxes = 7;
  for (int seed = 0; seed < 10; ++seed) {
    simt::reset(seeded(seed));
    Stream stream;
    const auto values = bfloat16s(64 * 8 * kBoxes, 1);
    const DeviceArray<__nv_bfloat16> data(values, stream);
    const DeviceArray<float> sums(64);
    ring_of_boxes(map_of({data.get(), {64, 1, 8 * kBoxes, 1}}, 8), sums.get(), kBoxes, stream);
    const auto got = sums.read(stream);
    for (int c = 0; c < 64; ++c) {
      float expected = 0;
      for (int r = 0; r < 8 * kBoxes; ++r) expected += __bfloat162float(values[r * 64 + c]);
      EXPECT_NEAR(got[c], expected, 1e-5) << c;
    }
  }
}

TEST_F(HopperEveryAccess, AStageThatIsRefilledTooEarly) {
  expect_fault(
      [] {
        Stream stream;
        const DeviceArray<__nv_bfloat16> data(bfloat16s(64 * 8 * 7, 1), stream);
        const DeviceArray<float> sums(64);
        ring_of_boxes(map_of({data.get(), {64, 1, 56, 1}}, 8), sums.get(), 7, stream,
                      HopperMistake::no_wait);
        stream.synchronize();
      },
      {"ring_kernel"});
}

// Largest error of a product of a warpgroup.
double product_error(int columns, bool transposed, bool a_in_registers, HopperMistake mistake) {
  Stream stream;
  const auto a = bfloat16s(64 * 64, 1), b = bfloat16s(64 * columns, 2);
  const DeviceArray<__nv_bfloat16> device_a(a, stream), device_b(b, stream);
  const DeviceArray<float> out(64 * columns);
  const auto n = static_cast<cuuint64_t>(columns);
  const Tensor right =
      transposed ? Tensor{device_b.get(), {n, 1, 64, 1}} : Tensor{device_b.get(), {64, 1, n, 1}};
  warpgroup_product(map_of({device_a.get(), {64, 1, 64, 1}}, 64),
                    map_of(right, transposed ? 64 : static_cast<cuuint32_t>(columns)), out.get(),
                    columns, transposed, a_in_registers, stream, mistake);
  const auto got = out.read(stream);
  double worst = 0;
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < columns; ++j) {
      double expected = 0;
      for (int k = 0; k < 64; ++k)
        expected += static_cast<double>(__bfloat162float(a[i * 64 + k])) *
                    __bfloat162float(transposed ? b[k * columns + j] : b[j * 64 + k]);
      const double error = std::fabs(got[i * columns + j] - expected);
      worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
    }
  return worst;
}

TEST(Wgmma, MultipliesInEveryLayout) {
  for (int seed = 0; seed < 3; ++seed)
    for (const int columns : {64, 128})
      for (const bool transposed : {false, true})
        for (const bool a_in_registers : {false, true}) {
          simt::reset(seeded(seed));
          EXPECT_LT(product_error(columns, transposed, a_in_registers, HopperMistake::none), 1e-5)
              << columns << (transposed ? " transposed" : "")
              << (a_in_registers ? " a in registers" : "");
        }
}

auto product_with(HopperMistake mistake, bool transposed = false) {
  return [=] { product_error(64, transposed, false, mistake); };
}

// Bits 0 to 13: address, 16 to 29: leading, 32 to 45: stride offset, each / 16; 62: 128-byte
// swizzle. A panel of 64 columns has 128 rows of 128 bytes, so that column 80 of row 64 is at
// 16384 + 8192 + 32 = 24608 = 16 * 0x602, and row 48 at 6144 = 16 * 0x180. Eight rows are 1024 =
// 16 * 0x40 bytes, the next panel is 16384 = 16 * 0x400 further.
TEST(Wgmma, DescriptorsOfTilesHaveTheBitsOfTheManual) {
  simt::reset(seeded(0));
  Stream stream;
  const DeviceArray<std::uint64_t> out(2);
  descriptors(out.get(), stream);
  const auto got = out.read(stream);
  EXPECT_EQ(got[0], 0x4000004000010602u);
  EXPECT_EQ(got[1], 0x4000004004000180u);
}

TEST(Wgmma, NeedsItsFence) {
  expect_fault(product_with(HopperMistake::no_register_fence), {"wgmma without wgmma.fence"});
}

TEST(Wgmma, NeedsAlignedDescriptors) {
  expect_fault(product_with(HopperMistake::misaligned), {"a descriptor of B that starts at byte"});
  expect_fault(product_with(HopperMistake::misaligned, true),
               {"a descriptor of B that starts at byte"});
}

TEST_F(HopperEveryAccess, SumsReadBeforeTheirGroupHasEnded) {
  expect_fault(product_with(HopperMistake::read_too_early),
               {"warpgroup_product_kernel", "reads sums that wgmma has in flight"});
}

TEST_F(HopperEveryAccess, WgmmaOnABoxThatNobodyHasWaitedFor) {
  expect_fault(product_with(HopperMistake::no_wait), {"asynchronous copy has not been waited for"});
}

TEST_F(HopperEveryAccess, StoresForWgmmaNeedTheFenceOfTheirProxy) {
  expect_fault(product_with(HopperMistake::no_proxy_fence), {"fence.proxy.async"});
}

TEST(NamedBarrier, LetsGroupsTakeTurns) {
  for (int seed = 0; seed < 10; ++seed) {
    simt::reset(seeded(seed));
    Stream stream;
    const DeviceArray<int> out(64);
    ping_pong(out.get(), 5, stream);
    const auto got = out.read(stream);
    for (int i = 0; i < 64; ++i) EXPECT_EQ(got[i], i + 15) << i;
  }
}

auto ping_pong_with(HopperMistake mistake) {
  return [mistake] {
    Stream stream;
    const DeviceArray<int> out(64);
    ping_pong(out.get(), 5, stream, mistake);
    stream.synchronize();
  };
}

TEST(NamedBarrier, CountsMustAgree) {
  expect_fault(ping_pong_with(HopperMistake::wrong_count), {"ping_pong_kernel", "where others"});
}

TEST_F(HopperEveryAccess, MissingWaitAtANamedBarrier) {
  expect_fault(ping_pong_with(HopperMistake::no_wait), {"ping_pong_kernel"});
}

auto registers_with(HopperMistake mistake) {
  return [mistake] {
    Stream stream;
    const DeviceArray<int> out(256);
    deal_out_registers(out.get(), stream, mistake);
    for (const int value : out.read(stream)) EXPECT_EQ(value, 1);
  };
}

TEST(Registers, AreDealtOutByWarpgroups) {
  simt::reset(seeded(0));
  registers_with(HopperMistake::none)();
  expect_fault(registers_with(HopperMistake::wrong_count),
               {"setmaxnreg from 232 to 240, called .dec"});
  expect_fault(registers_with(HopperMistake::part_of_a_warpgroup),
               {"warps of one warpgroup", "240"});
}

}  // namespace
}  // namespace simt_test
