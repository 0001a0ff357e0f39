// bfloat16 as cuda_bf16.h has it. Conversions from f32 round to nearest, ties to even, and every
// NaN becomes 0x7fff, as cvt.rn.bf16.f32 does (PTX ISA, "cvt"). Arithmetic is that of the hardware:
// the exact result of the operation on the two values, rounded once.
#pragma once

#include <cstdint>

#include <simt/intrinsics.hpp>
#include <simt/vector_types.hpp>

struct __nv_bfloat16_raw {
  unsigned short x;
};

struct alignas(2) __nv_bfloat16 {
  unsigned short __x;

  __nv_bfloat16() = default;
  __nv_bfloat16(__nv_bfloat16_raw raw) : __x(raw.x) {}
  __nv_bfloat16(float v) : __x(round(v)) {}
  explicit __nv_bfloat16(double v) : __x(round_double(v)) {}
  explicit __nv_bfloat16(int v) : __x(round_double(v)) {}
  operator float() const { return __uint_as_float(static_cast<unsigned int>(__x) << 16); }
  operator __nv_bfloat16_raw() const { return {__x}; }
  __nv_bfloat16& operator=(float v) {
    __x = round(v);
    return *this;
  }

  static unsigned short round(float v) {
    const unsigned int bits = __float_as_uint(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
  // Once, not through f32: the f32 is rounded to odd, which keeps what decides a tie.
  static unsigned short round_double(double v) {
    float narrow = static_cast<float>(v);
    if (narrow == narrow && static_cast<double>(narrow) != v &&
        (__float_as_uint(narrow) & 1u) == 0 && !std::isinf(narrow)) {
      const bool away = std::fabs(static_cast<double>(narrow)) > std::fabs(v);
      narrow = __uint_as_float(__float_as_uint(narrow) + (away ? -1u : 1u));
    }
    return round(narrow);
  }
};
typedef __nv_bfloat16 nv_bfloat16;

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
  __nv_bfloat162() = default;
  __nv_bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) : x(low), y(high) {}
};
typedef __nv_bfloat162 nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float v) { return __nv_bfloat16(v); }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return __nv_bfloat16(v); }
inline __nv_bfloat16 __double2bfloat16(double v) { return __nv_bfloat16(v); }
inline __nv_bfloat16 __float2bfloat16_rz(float v) {
  const unsigned int bits = __float_as_uint(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return __nv_bfloat16_raw{0x7fff};
  return __nv_bfloat16_raw{static_cast<unsigned short>(bits >> 16)};
}
inline float __bfloat162float(__nv_bfloat16 v) { return static_cast<float>(v); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.__x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return __nv_bfloat16_raw{v}; }

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) {
  return {low, high};
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 v) { return {v, v}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__nv_bfloat16(low), __nv_bfloat16(high)};
}
inline __nv_bfloat162 __float2bfloat162_rn(float v) { return __floats2bfloat162_rn(v, v); }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {static_cast<float>(v.x), static_cast<float>(v.y)};
}
inline float __low2float(__nv_bfloat162 v) { return static_cast<float>(v.x); }
inline float __high2float(__nv_bfloat162 v) { return static_cast<float>(v.y); }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }

// Products of two bfloat16 are exact in f32 and sums of two are rounded to odd by way of f64, so
// that each result below is rounded only once.
inline __nv_bfloat16 __hadd(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __nv_bfloat16(static_cast<double>(static_cast<float>(a)) + static_cast<float>(b));
}
inline __nv_bfloat16 __hsub(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __nv_bfloat16(static_cast<double>(static_cast<float>(a)) - static_cast<float>(b));
}
inline __nv_bfloat16 __hmul(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __nv_bfloat16(static_cast<float>(a) * static_cast<float>(b));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  const double product = static_cast<double>(static_cast<float>(a)) * static_cast<float>(b);
  return __nv_bfloat16(product + static_cast<float>(c));
}
// CUDA's operators round to bfloat16; here `a + b` would be of two floats without a word.
__nv_bfloat16 operator+(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator-(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator*(__nv_bfloat16, __nv_bfloat16) = delete;
__nv_bfloat16 operator/(__nv_bfloat16, __nv_bfloat16) = delete;
inline __nv_bfloat16 __hneg(__nv_bfloat16 v) {
  return __nv_bfloat16_raw{static_cast<unsigned short>(v.__x ^ 0x8000u)};
}
inline __nv_bfloat16 __habs(__nv_bfloat16 v) {
  return __nv_bfloat16_raw{static_cast<unsigned short>(v.__x & 0x7fffu)};
}
inline bool __hisnan(__nv_bfloat16 v) { return (v.__x & 0x7fffu) > 0x7f80u; }
inline __nv_bfloat16 __hmax(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __nv_bfloat16(fmaxf(static_cast<float>(a), static_cast<float>(b)));
}
inline __nv_bfloat16 __hmin(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __nv_bfloat16(fminf(static_cast<float>(a), static_cast<float>(b)));
}
inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return {__hadd(a.x, b.x), __hadd(a.y, b.y)};
}
inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return {__hsub(a.x, b.x), __hsub(a.y, b.y)};
}
inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return {__hmul(a.x, b.x), __hmul(a.y, b.y)};
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b) {
  return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
