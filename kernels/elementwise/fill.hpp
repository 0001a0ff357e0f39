// A value that is known to the device only, everywhere.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y[n] = value[0]; both of one floating dtype.
struct Fill {
  static constexpr std::string_view name = "fill";
  struct Arguments {
    Tensor value, y;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
