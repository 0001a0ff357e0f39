// Element types and the scalar types behind them.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace filigree {

enum class DType : std::uint8_t { f64, f32, bf16, f16, i64, i32, u16, u8 };

// bfloat16 as storage: the upper half of an IEEE binary32. Arithmetic happens in float.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  // Rounds to nearest, ties to even, as the hardware conversions do; a NaN stays a (quiet) NaN.
  explicit BFloat16(float value) {
    const auto raw = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (raw & 0x7fffffffu) > 0x7f800000u;
    bits = is_nan ? static_cast<std::uint16_t>((raw >> 16) | 0x40u)
                  : static_cast<std::uint16_t>((raw + 0x7fffu + ((raw >> 16) & 1u)) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

// IEEE binary16 as storage only: files may hold it, kernels do not compute in it.
struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  // Rounds to nearest, ties to even; what is too large becomes infinite, a NaN stays a (quiet) NaN.
  explicit Float16(float value) {
    const auto raw = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (raw >> 16) & 0x8000u, size = raw & 0x7fffffffu;
    std::uint32_t rounded = 0;
    if (size > 0x7f800000u) {
      rounded = 0x7e00u | ((size >> 13) & 0x3ffu);
    } else if (size >= 0x477ff000u) {  // 65520: halfway between the largest and infinity
      rounded = 0x7c00u;
    } else if (size < 0x38800000u) {  // subnormal: the sum has the spacing of binary16's
      rounded = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000u;
    } else {
      rounded = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
    }
    bits = static_cast<std::uint16_t>(sign | rounded);
  }
  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u;
    const std::uint32_t fraction = bits & 0x3ffu;
    std::uint32_t size = (exponent + 112u) << 23 | fraction << 13;
    if (exponent == 31u) size = 0x7f800000u | fraction << 13;
    if (exponent == 0u)
      size = std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
    return std::bit_cast<float>(sign | size);
  }
};

std::int64_t size_of(DType dtype);             // bytes of one element
std::string_view name_of(DType dtype);         // "f32"
DType dtype_from_name(std::string_view name);  // throws UserError that lists the names
bool is_floating(DType dtype);

// The type in which values of `dtype` are accumulated: f64 for f64, f32 for f32 and below.
DType accumulation_dtype(DType dtype);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType value = DType::u16;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace filigree
