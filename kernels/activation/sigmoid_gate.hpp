// Output gate of attention (Qiu et al. 2025, "Gated Attention for Large Language Models",
// arXiv 2505.06708, section 3: multiplicative, sigmoid, after attention).
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y = x * sigmoid(gate),   sigmoid(z) = 1 / (1 + exp(-z)); all [T, F] of one dtype.
struct SigmoidGateForward {
  static constexpr std::string_view name = "sigmoid_gate_forward";
  struct Arguments {
    Tensor x_TF, gate_TF, y_TF;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dx = dy * s,  dgate = dy * x * s (1 - s),  s = sigmoid(gate); both overwritten.
struct SigmoidGateBackward {
  static constexpr std::string_view name = "sigmoid_gate_backward";
  struct Arguments {
    Tensor x_TF, gate_TF, dy_TF, dx_TF, dgate_TF;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
