// Copies in flight, ldmatrix and mma against products in f64.
#include <cmath>

#include "tests/simt/fixture.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

constexpr int kSteps = 5, kDepth = 16 * kSteps;

std::vector<__nv_bfloat16> random_bfloat16(std::size_t n, unsigned seed) {
  std::vector<__nv_bfloat16> values;
  for (const float v : random_floats(n, seed)) values.emplace_back(v);
  return values;
}

// Largest error of the kernel's product.
double product_error(bool by_column, Mistake mistake) {
  Stream stream;
  const auto a = random_bfloat16(16 * kDepth, 1), b = random_bfloat16(8 * kDepth, 2);
  const DeviceArray<__nv_bfloat16> device_a(a, stream), device_b(b, stream);
  const DeviceArray<float> out(16 * 8);
  product(device_a.get(), device_b.get(), out.get(), kDepth, by_column, stream, mistake);
  const std::vector<float> result = out.read(stream);
  double worst = 0;
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double expected = 0;
      for (int k = 0; k < kDepth; ++k) {
        const __nv_bfloat16 right = by_column ? b[j * kDepth + k] : b[k * 8 + j];
        expected +=
            static_cast<double>(__bfloat162float(a[i * kDepth + k])) * __bfloat162float(right);
      }
      const double error = std::fabs(result[i * 8 + j] - expected);
      worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
    }
  }
  return worst;
}

TEST(Matrix, ProductOfTilesCopiedAhead) {
  for (int seed = 0; seed < 10; ++seed) {
    simt::reset(seeded(seed));
    EXPECT_LT(product_error(false, Mistake::none), 1e-5);
    EXPECT_LT(product_error(true, Mistake::none), 1e-5);
  }
}

TEST(Matrix, FragmentOffByOneIsWrong) {
  simt::reset(seeded(0));
  EXPECT_GT(product_error(false, Mistake::fragment_off_by_one), 0.1);
  EXPECT_GT(product_error(true, Mistake::fragment_off_by_one), 0.1);
}

TEST(Matrix, MissingWaitForACopy) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  expect_fault([] { product_error(true, Mistake::no_wait); },
               {"product_kernel", "asynchronous copy has not been waited for"});
}

TEST(Matrix, Tf32IgnoresTheLowestBits) {
  simt::reset(seeded(0));
  Stream stream;
  const auto a = random_floats(16 * 8, 3), b = random_floats(8 * 8, 4);
  const DeviceArray<float> device_a(a, stream), device_b(b, stream), out(16 * 8);
  product_tf32(device_a.get(), device_b.get(), out.get(), stream);
  const std::vector<float> result = out.read(stream);
  const auto cut = [](float v) { return __uint_as_float(__float_as_uint(v) & 0xffffe000u); };
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double expected = 0;
      for (int k = 0; k < 8; ++k) {
        expected += static_cast<double>(cut(a[i * 8 + k])) * cut(b[k * 8 + j]);
      }
      EXPECT_NEAR(result[i * 8 + j], expected, 1e-6);
    }
  }
}

}  // namespace
}  // namespace simt_test
