// Says in words the first thing that is wrong with an op's arguments; what reject functions return.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "kernels/elementwise/floating.hpp"

namespace filigree {

// return ArgumentCheck().floating("x", x).like("y", y, x).problem();
// Text is only built for the first failure, since this runs on every dispatch.
class ArgumentCheck {
 public:
  // x is defined and of a dtype that kernels compute in.
  ArgumentCheck& floating(std::string_view name, const Tensor& x) {
    if (defined(name, x) && !is_compute_dtype(x.dtype()))
      problem_ = str(name, " is ", name_of(x.dtype()), "; allowed: f64 f32 bf16");
    return *this;
  }
  ArgumentCheck& dtype(std::string_view name, const Tensor& x, DType expected) {
    if (defined(name, x) && x.dtype() != expected)
      problem_ = str(name, " is ", name_of(x.dtype()), ", expected ", name_of(expected));
    return *this;
  }
  ArgumentCheck& numel(std::string_view name, const Tensor& x, std::int64_t expected) {
    if (defined(name, x) && x.numel() != expected)
      problem_ = str(name, " is ", x.shape(), ", expected ", expected, " elements");
    return *this;
  }
  // y has x's dtype and element count.
  ArgumentCheck& like(std::string_view name, const Tensor& y, const Tensor& x) {
    return problem_ ? *this : dtype(name, y, x.dtype()).numel(name, y, x.numel());
  }
  template <class... Parts>
  ArgumentCheck& require(bool condition, const Parts&... parts) {
    if (!problem_ && !condition) problem_ = str(parts...);
    return *this;
  }
  const std::optional<std::string>& problem() const { return problem_; }

 private:
  // False when a problem is known already, so that later checks may assume what earlier ones
  // established.
  bool defined(std::string_view name, const Tensor& x) {
    if (!problem_ && !x.defined()) problem_ = str(name, " is undefined");
    return !problem_;
  }
  std::optional<std::string> problem_;
};

}  // namespace filigree
