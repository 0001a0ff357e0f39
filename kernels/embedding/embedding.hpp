// Table lookup, with the table split by rows over ranks.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y[t,:] = w[id[t] - first_row, :], or zeros where id[t] lies outside [first_row, first_row + rows
// of w). ids: i32 [T]; w: [rows, D]; y: [T, D] of w's dtype.
struct EmbeddingForward {
  static constexpr std::string_view name = "embedding_forward";
  struct Arguments {
    Tensor ids_T, w_VD, y_TD;
    std::int64_t first_row = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dw[id[t] - first_row, :] += dy[t,:]   in ascending t; dw in the accumulation dtype. Overwrites
// (zeroing first) unless accumulate.
struct EmbeddingBackward {
  static constexpr std::string_view name = "embedding_backward";
  struct Arguments {
    Tensor ids_T, dy_TD, dw_VD;
    std::int64_t first_row = 0;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
