// Correct kernels run clean and right under every order of blocks and threads.
#include "tests/simt/kernels.hpp"

#include <cmath>
#include <numeric>

#include "tests/simt/fixture.hpp"

namespace simt_test {
namespace {

class Kernels : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { simt::reset(seeded(GetParam())); }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Kernels, testing::Range(0, 10));

TEST_P(Kernels, RowSums) {
  Stream stream;
  const int rows = 7, n = 301;
  const std::vector<float> values = random_floats(rows * n, 1);
  const DeviceArray<float> in(values, stream), sums(rows);
  row_sums(in.get(), sums.get(), rows, n, stream);
  const std::vector<float> result = sums.read(stream);
  for (int row = 0; row < rows; ++row) {
    const double expected = std::accumulate(&values[row * n], &values[row * n] + n, 0.0);
    EXPECT_NEAR(result[row], expected, 1e-4);
  }
}

TEST_P(Kernels, Transpose) {
  Stream stream;
  const int rows = 45, columns = 70;
  const std::vector<float> values = random_floats(rows * columns, 2);
  const DeviceArray<float> in(values, stream), out(values.size());
  transpose(in.get(), out.get(), rows, columns, stream);
  const std::vector<float> result = out.read(stream);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      ASSERT_EQ(result[c * rows + r], values[r * columns + c]) << r << ' ' << c;
    }
  }
}

TEST_P(Kernels, WarpScanAndRotation) {
  Stream stream;
  std::vector<int> values(256);
  for (int i = 0; i < 256; ++i) values[i] = (i * 37) % 101 - 50;
  const DeviceArray<int> in(values, stream), scanned(256), rotated(256);
  warp_scan(in.get(), scanned.get(), 256, stream);
  warp_rotate(in.get(), rotated.get(), 256, stream);
  const std::vector<int> scan = scanned.read(stream), rotation = rotated.read(stream);
  for (int i = 0, sum = 0; i < 256; ++i) {
    sum = (i % 32 == 0 ? 0 : sum) + values[i];
    EXPECT_EQ(scan[i], sum);
    EXPECT_EQ(rotation[i], values[i / 32 * 32 + (i + 3) % 32]);
  }
}

TEST_P(Kernels, Histogram) {
  Stream stream;
  const int n = 1000, bins = 37;
  std::vector<int> values(n);
  std::vector<unsigned> expected(bins, 0);
  for (int i = 0; i < n; ++i) ++expected[values[i] = (i * i) % bins];
  const DeviceArray<int> in(values, stream);
  const DeviceArray<unsigned> counts(bins);
  ASSERT_EQ(cudaMemsetAsync(counts.get(), 0, bins * sizeof(unsigned), stream), cudaSuccess);
  histogram(in.get(), counts.get(), n, bins, stream);
  EXPECT_EQ(counts.read(stream), expected);
}

TEST_P(Kernels, LastBlockSeesTheOthers) {
  Stream stream;
  const int n = 1000, blocks = (n + 31) / 32;
  const std::vector<float> values = random_floats(n, 3);
  const DeviceArray<float> in(values, stream), parts(blocks), total(1);
  const DeviceArray<unsigned> arrived(std::vector<unsigned>(1, 0), stream);
  total_by_last_block(in.get(), parts.get(), arrived.get(), total.get(), n, stream);
  EXPECT_NEAR(total.read(stream)[0], std::accumulate(values.begin(), values.end(), 0.0), 1e-4);
}

TEST_P(Kernels, PositionsInThreeDimensions) {
  Stream stream;
  const dim3 grid(2, 3, 4), block(5, 2, 3);
  const DeviceArray<int> to(24 * 30);
  write_positions(to.get(), grid, block, stream);
  std::vector<int> expected(24 * 30);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(to.read(stream), expected);
}

TEST_P(Kernels, VotesAndReductions) {
  Stream stream;
  std::vector<int> values(32);
  for (int i = 0; i < 32; ++i) values[i] = (i * 13) % 32 - 15;
  unsigned ballot = 0, alike = 0, exclusive = 0;
  for (int i = 0; i < 32; ++i) {
    ballot |= values[i] > 0 ? 1u << i : 0;
    alike |= (values[i] & 3) == (values[0] & 3) ? 1u << i : 0;
    exclusive ^= static_cast<unsigned>(values[i]);
  }
  const DeviceArray<int> in(values, stream);
  const DeviceArray<unsigned> results(11);
  votes(in.get(), results.get(), stream);
  // The values are -15 to 16 in some order.
  EXPECT_EQ(results.read(stream),
            (std::vector<unsigned>{ballot, 1, 1, alike, 16, static_cast<unsigned>(-15), 16,
                                   exclusive, 16, 1, 1}));
}

TEST(Bfloat16, RoundsToNearestEvenAndKeepsSpecialValues) {
  simt::reset(seeded(0));
  const auto f = [](unsigned bits) { return __uint_as_float(bits); };
  const std::vector<float> values = {1.0f,          f(0x3f808000), f(0x3f818000), f(0x3f808001),
                                     f(0x3f807fff), f(0x7f7fffff), f(0xff800000), f(0x7fc00001),
                                     f(0xff800001), f(0x00008000), f(0x00018000), f(0x80000000)};
  const std::vector<unsigned short> expected = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x7f80,
                                                0xff80, 0x7fff, 0x7fff, 0x0000, 0x0002, 0x8000};
  Stream stream;
  const DeviceArray<float> in(values, stream);
  const DeviceArray<unsigned short> bits(values.size());
  to_bfloat16(in.get(), bits.get(), static_cast<int>(values.size()), stream);
  EXPECT_EQ(bits.read(stream), expected);
}

TEST(Emulator, OneSeedOneOrder) {
  const auto run = [](std::uint64_t seed) {
    simt::reset(seeded(seed));
    Stream stream;
    const std::vector<float> values = random_floats(999, 4);
    const DeviceArray<float> in(values, stream), parts(32), total(1);
    const DeviceArray<unsigned> arrived(std::vector<unsigned>(1, 0), stream);
    return fault_of([&] {
      race_in_device_memory(total.get(), stream);
      stream.synchronize();
    });
  };
  EXPECT_EQ(run(5), run(5));
}

}  // namespace
}  // namespace simt_test
