// Arithmetic on numbers that are known to the device only: f64, element by element.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y = a / b; 1 / b where a is undefined.
struct Divide {
  static constexpr std::string_view name = "divide";
  struct Arguments {
    Tensor a, b, y;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// y = sqrt(x)
struct SquareRoot {
  static constexpr std::string_view name = "square_root";
  struct Arguments {
    Tensor x, y;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
