// Calls a template for the element type of a tensor, and the type that its values are accumulated in.
#pragma once

#include <type_traits>

#include "runtime/core/dtype.hpp"
#include "runtime/core/error.hpp"

namespace filigree {

template <class T>
using AccumulationOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

// call(T{}) with T the element type: double, float or BFloat16.
template <class Call>
void for_floating(DType dtype, const Call& call) {
  switch (dtype) {
    case DType::f64: return call(double{});
    case DType::f32: return call(float{});
    case DType::bf16: return call(BFloat16{});
    default: FILIGREE_CHECK(false, "no arithmetic in ", name_of(dtype));
  }
}

}  // namespace filigree
