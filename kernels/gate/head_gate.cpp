#include "kernels/gate/head_gate.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

Work streamed(std::int64_t flops, std::initializer_list<const Tensor*> tensors) {
  Work work{flops, flops, 0};
  for (const Tensor* tensor : tensors) work.bytes += tensor->bytes();
  return work;
}

std::optional<std::string> check_means(const BlockGrid& grid, const Tensor& keys,
                                       const Tensor& means) {
  ArgumentCheck check;
  check_grid(check, grid);
  check.floating("kbar", keys).dtype("y", means, keys.dtype());
  if (check.problem()) return check.problem();
  return check
      .require(keys.rank() == 2 && keys.dim(0) == grid.batch * grid.key_blocks(), "kbar is ",
               keys.shape(), " for ", grid.batch * grid.key_blocks(), " blocks")
      .numel("y", means, grid.batch * grid.groups() * (keys.rank() == 2 ? keys.dim(1) : 0))
      .problem();
}

void check_heads(ArgumentCheck& check, const BlockGrid& grid, const Tensor& o, const Tensor& s,
                 const Tensor& dense_heads) {
  check_grid(check, grid);
  check.floating("o", o);
  if (check.problem()) return;
  check.dtype("s", s, accumulation_dtype(o.dtype()))
      .numel("s", s, grid.batch * grid.groups() * grid.heads)
      .require(o.rank() == 2 && o.dim(0) == grid.batch * grid.query_length && grid.heads > 0 &&
                   o.dim(1) % grid.heads == 0,
               "o is ", o.shape(), " for ", grid.batch * grid.query_length, " rows of ", grid.heads,
               " heads");
  check_dense_heads(check, grid, dense_heads);
}

}  // namespace

Work FinishedKeyMean::work(const Arguments& a) {
  return streamed(a.kbar_MC.numel() + a.y_NC.numel(), {&a.kbar_MC, &a.y_NC});
}
Work FinishedKeyMeanBackward::work(const Arguments& a) {
  return streamed(2 * a.dy_NC.numel() + a.dkbar_MC.numel(), {&a.dy_NC, &a.dkbar_MC});
}
Work HeadGateForward::work(const Arguments& a) {
  return streamed(4 * a.s_NH.numel(), {&a.a_NH, &a.b_NH, &a.s_NH});
}
Work HeadGateBackward::work(const Arguments& a) {
  return streamed(3 * a.s_NH.numel(), {&a.s_NH, &a.ds_NH, &a.d_NH});
}
Work ScaleHeads::work(const Arguments& a) {
  return streamed(a.o_THK.numel(), {&a.o_THK, &a.s_NH, &a.y_THK});
}
Work ScaleHeadsBackward::work(const Arguments& a) {
  return streamed(3 * a.o_THK.numel(), {&a.o_THK, &a.s_NH, &a.dy_THK, &a.do_THK, &a.ds_NH});
}

std::optional<std::string> FinishedKeyMean::reject(const Arguments& a, const ExecutionContext&) {
  return check_means(a.grid, a.kbar_MC, a.y_NC);
}
std::optional<std::string> FinishedKeyMeanBackward::reject(const Arguments& a,
                                                           const ExecutionContext&) {
  return check_means(a.grid, a.dkbar_MC, a.dy_NC);
}
std::optional<std::string> HeadGateForward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("a", a.a_NH).like("b", a.b_NH, a.a_NH);
  if (check.problem()) return check.problem();
  return check.dtype("s", a.s_NH, accumulation_dtype(a.a_NH.dtype()))
      .numel("s", a.s_NH, a.a_NH.numel())
      .problem();
}
std::optional<std::string> HeadGateBackward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("d", a.d_NH);
  if (check.problem()) return check.problem();
  return check.dtype("s", a.s_NH, accumulation_dtype(a.d_NH.dtype()))
      .numel("s", a.s_NH, a.d_NH.numel())
      .like("ds", a.ds_NH, a.s_NH)
      .problem();
}
std::optional<std::string> ScaleHeads::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_heads(check, a.grid, a.o_THK, a.s_NH, a.dense_heads_H);
  return check.like("y", a.y_THK, a.o_THK).problem();
}
std::optional<std::string> ScaleHeadsBackward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_heads(check, a.grid, a.o_THK, a.s_NH, a.dense_heads_H);
  return check.like("dy", a.dy_THK, a.o_THK)
      .like("do", a.do_THK, a.o_THK)
      .like("ds", a.ds_NH, a.s_NH)
      .problem();
}

void register_head_gate(KernelTable& table) {
  register_reference_and_cpu<FinishedKeyMean>(table);
  register_reference_and_cpu<FinishedKeyMeanBackward>(table);
  register_reference_and_cpu<HeadGateForward>(table);
  register_reference_and_cpu<HeadGateBackward>(table);
  register_reference_and_cpu<ScaleHeads>(table);
  register_reference_and_cpu<ScaleHeadsBackward>(table);
}

}  // namespace filigree
