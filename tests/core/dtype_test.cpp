#include "runtime/core/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

float through_bf16(float value) { return static_cast<float>(BFloat16(value)); }

TEST(BFloat16, KeepsEveryValueItCanHold) {
  for (std::uint32_t upper = 0; upper <= 0xffffu; ++upper) {
    const float value = std::bit_cast<float>(upper << 16);
    if (std::isnan(value)) continue;
    EXPECT_EQ(BFloat16(value).bits, upper) << "bits " << std::hex << upper;
  }
}

TEST(BFloat16, RoundsToTheNearestNeighbour) {
  // One step above 1 is 2^-7.
  EXPECT_EQ(through_bf16(1 + 0.49f * 0x1p-7f), 1.0f);
  EXPECT_EQ(through_bf16(1 + 0.51f * 0x1p-7f), 1 + 0x1p-7f);
  EXPECT_EQ(through_bf16(-1 - 0.51f * 0x1p-7f), -1 - 0x1p-7f);
}

TEST(BFloat16, TiesGoToTheEvenNeighbour) {
  EXPECT_EQ(through_bf16(1 + 0x1p-8f), 1.0f);
  EXPECT_EQ(through_bf16(1 + 3 * 0x1p-8f), 1 + 0x1p-6f);
  EXPECT_EQ(through_bf16(-1 - 0x1p-8f), -1.0f);
}

TEST(BFloat16, CarriesIntoTheExponentAndOverflows) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(through_bf16(2 - 0x1p-20f), 2.0f);
  EXPECT_EQ(through_bf16(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(through_bf16(-kInfinity), -kInfinity);
}

// A NaN whose payload lies in the lower half must not become an infinity.
TEST(BFloat16, NotANumberStaysOne) {
  for (const std::uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu})
    EXPECT_TRUE(std::isnan(through_bf16(std::bit_cast<float>(bits)))) << std::hex << bits;
}

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(size_of(DType::f64), 8);
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_EQ(size_of(DType::i32), 4);
  EXPECT_EQ(size_of(DType::u8), 1);
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32,
                            DType::u16, DType::u8})
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
}

TEST(DType, UnknownNamesAreTheUsersError) {
  try {
    dtype_from_name("float32");
    FAIL() << "float32 was taken";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "unknown dtype 'float32'; allowed: f64 f32 bf16 f16 i64 i32 u16 u8");
  }
}

TEST(DType, AccumulationIsAtLeastF32) {
  EXPECT_EQ(accumulation_dtype(DType::f64), DType::f64);
  EXPECT_EQ(accumulation_dtype(DType::f32), DType::f32);
  EXPECT_EQ(accumulation_dtype(DType::bf16), DType::f32);
}

TEST(Float16, KeepsEveryValueItCanHold) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    Float16 half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(half);
    const bool is_nan = (bits & 0x7fffu) > 0x7c00u;
    EXPECT_EQ(std::isnan(wide), is_nan) << std::hex << bits;
    if (is_nan) {
      EXPECT_TRUE(std::isnan(static_cast<float>(Float16(wide)))) << std::hex << bits;
    } else {
      EXPECT_EQ(Float16(wide).bits, bits) << std::hex << bits;
    }
  }
  EXPECT_EQ(static_cast<float>(Float16(1.5f)), 1.5f);
  EXPECT_EQ(static_cast<float>(Float16(65504.0f)), 65504.0f);
  EXPECT_EQ(static_cast<float>(Float16(-0x1p-24f)), -0x1p-24f);
}

TEST(Float16, RoundsToTheNearestNeighbourAndTiesToTheEvenOne) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    Float16 low, high;
    low.bits = static_cast<std::uint16_t>(bits);
    high.bits = static_cast<std::uint16_t>(bits + 1);
    const float middle = (static_cast<float>(low) + static_cast<float>(high)) / 2;
    EXPECT_EQ(Float16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << std::hex << bits;
    EXPECT_EQ(Float16(std::nextafter(middle, 0.0f)).bits, bits) << std::hex << bits;
    EXPECT_EQ(Float16(std::nextafter(middle, 1e30f)).bits, bits + 1) << std::hex << bits;
    EXPECT_EQ(Float16(-middle).bits, Float16(middle).bits | 0x8000u) << std::hex << bits;
  }
  EXPECT_EQ(Float16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(Float16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(Float16(std::numeric_limits<float>::infinity()).bits, 0x7c00);
}

}  // namespace
}  // namespace filigree
