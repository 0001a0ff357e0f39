#include "kernels/embedding/embedding.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work EmbeddingForward::work(const Arguments& a) {
  return {0, 0, a.ids_T.bytes() + 2 * a.y_TD.bytes()};
}

Work EmbeddingBackward::work(const Arguments& a) {
  // Every row of dy is read and added to a row of dw; without accumulate the whole table is zeroed
  // first.
  const std::int64_t touched = 2 * a.dy_TD.numel() * size_of(a.dw_VD.dtype());
  const std::int64_t zeroed = a.accumulate ? 0 : a.dw_VD.bytes();
  return {a.dy_TD.numel(), a.dy_TD.numel(), a.ids_T.bytes() + a.dy_TD.bytes() + touched + zeroed};
}

std::optional<std::string> EmbeddingForward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.dtype("ids", a.ids_T, DType::i32).floating("w", a.w_VD);
  if (check.problem()) return check.problem();
  return check.require(a.w_VD.rank() == 2, "w is ", a.w_VD.shape(), ", expected [rows, D]")
      .dtype("y", a.y_TD, a.w_VD.dtype())
      .numel("y", a.y_TD, a.ids_T.numel() * columns_of(a.w_VD))
      .problem();
}

std::optional<std::string> EmbeddingBackward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.dtype("ids", a.ids_T, DType::i32).floating("dy", a.dy_TD);
  if (check.problem()) return check.problem();
  check.dtype("dw", a.dw_VD, accumulation_dtype(a.dy_TD.dtype()));
  if (check.problem()) return check.problem();
  return check.require(a.dw_VD.rank() == 2, "dw is ", a.dw_VD.shape(), ", expected [rows, D]")
      .numel("dy", a.dy_TD, a.ids_T.numel() * columns_of(a.dw_VD))
      .problem();
}

void register_embedding(KernelTable& table) {
  register_reference_and_cpu<EmbeddingForward>(table);
  register_reference_and_cpu<EmbeddingBackward>(table);
}

}  // namespace filigree
