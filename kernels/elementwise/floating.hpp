// How kernels see the floating storage types: one template parameter T for storage, Accumulator<T>
// for arithmetic.
#pragma once

#include <bit>
#include <type_traits>
#include <utility>

#include "runtime/core/tensor.hpp"

namespace filigree {

// f64 computes in f64; f32 and bf16 compute in f32. dtype_of<Accumulator<T>> is accumulation_dtype.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Stored value -> arithmetic value, exact.
template <class T>
inline Accumulator<T> widened(T value) {
  return static_cast<Accumulator<T>>(value);
}

// Arithmetic value -> stored value, rounded once. f64 reaches bf16 through a float rounded to odd:
// a float rounded to nearest could land on a tie of bf16 and be rounded the wrong way (Boldo and
// Melquiond 2008).
template <class T, class A>
inline T rounded(A value) {
  if constexpr (std::is_same_v<T, BFloat16> && std::is_same_v<A, double>) {
    const float nearest = static_cast<float>(value);
    const auto bits = std::bit_cast<std::uint32_t>(nearest);
    const bool is_exact = static_cast<double>(nearest) == value || !(nearest - nearest == 0);
    const bool away_from_zero = nearest < 0 ? nearest < value : nearest > value;
    const std::uint32_t odd = (away_from_zero ? bits - 1 : bits) | 1u;
    return BFloat16(std::bit_cast<float>(is_exact ? bits : odd));
  } else {
    return T(value);
  }
}

// Calls visitor(T{}) for the storage type behind a floating dtype that kernels compute in.
template <class Visitor>
void visit_floating(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return std::forward<Visitor>(visitor)(double{});
    case DType::f32:
      return std::forward<Visitor>(visitor)(float{});
    case DType::bf16:
      return std::forward<Visitor>(visitor)(BFloat16{});
    default:
      FILIGREE_CHECK(false, "kernels do not compute in ", name_of(dtype));
  }
}

inline bool is_compute_dtype(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16;
}

// A tensor of any rank seen as rows of its last dim. A scalar is one row of one element.
inline std::int64_t columns_of(const Tensor& x) { return x.rank() == 0 ? 1 : x.dim(-1); }
inline std::int64_t rows_of(const Tensor& x) {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < x.rank(); ++d) rows *= x.dim(d);
  return rows;
}

}  // namespace filigree
