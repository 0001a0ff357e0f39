// Initial values that do not depend on how a tensor is split.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// x is the slice of a global tensor [rows, global_columns] whose first element stands at
// (first_row, first_column). x[r,c] = mean + deviation * Philox(seed, initialisation,
// stream).normal((first_row+r) * global_columns + first_column + c) f64, f32 or bf16; the normal
// value is computed in f64 and rounded once.
struct NormalFill {
  static constexpr std::string_view name = "normal_fill";
  struct Arguments {
    Tensor x_RC;
    double mean = 0.0, deviation = 1.0;
    std::uint64_t seed = 0, stream = 0;
    std::int64_t first_row = 0, first_column = 0, global_columns = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
