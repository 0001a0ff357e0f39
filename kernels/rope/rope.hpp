// Rotary position embedding in rotate-half form (Su et al. 2021, "RoFormer"; the pairing of Llama
// as in Hugging Face transformers: element i turns with element i + K/2).
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/rope/rotary_frequencies.hpp"

namespace filigree {

// For every head, i < K/2, angle = position[t] * frequencies.of(i, K):
//   y[i]       = x[i] cos - x[i+K/2] sin
//   y[i + K/2] = x[i+K/2] cos + x[i] sin
// x, y: [T, heads*K], may be the same tensor; positions: i32 [T]. inverse turns the other way,
// which is the gradient. Angles are computed in f64 whatever the dtype. K is even.
struct Rope {
  static constexpr std::string_view name = "rope";
  struct Arguments {
    Tensor x_THK, positions_T, y_THK;
    std::int64_t head_dim = 0;
    RotaryFrequencies frequencies;
    bool inverse = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
