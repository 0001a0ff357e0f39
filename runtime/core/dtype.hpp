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
