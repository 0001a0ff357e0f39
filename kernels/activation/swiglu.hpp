// Gated activation (Shazeer 2020, "GLU Variants Improve Transformer").
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y = silu(gate) * up,   silu(z) = z / (1 + exp(-z)); all [T, F] of one dtype.
struct SwigluForward {
  static constexpr std::string_view name = "swiglu_forward";
  struct Arguments {
    Tensor gate_TF, up_TF, y_TF;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dgate = dy * up * s (1 + gate (1 - s)),  dup = dy * silu(gate),  s = sigmoid(gate); both
// overwritten.
struct SwigluBackward {
  static constexpr std::string_view name = "swiglu_backward";
  struct Arguments {
    Tensor gate_TF, up_TF, dy_TF, dgate_TF, dup_TF;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
