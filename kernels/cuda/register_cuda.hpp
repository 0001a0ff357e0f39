// How an op's CUDA implementation gets into the table.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// What Op::reject lets through, in f32 or bf16; f64 is for proofs, which run on the CPU.
template <class Op, Tensor Op::Arguments::*... kTensors>
std::optional<std::string> reject_on_cuda(const typename Op::Arguments& arguments,
                                          const ExecutionContext& context) {
  if (auto problem = Op::reject(arguments, context)) return problem;
  if ((((arguments.*kTensors).dtype() == DType::f64) || ...))
    return "CUDA kernels compute in f32 and bf16";
  return std::nullopt;
}

// Registers Op::cuda. kTensors name the arguments whose dtypes are computed in; `name` is the
// library's where one computes.
template <class Op, Tensor Op::Arguments::*... kTensors>
void register_cuda(KernelTable& table, std::string_view name = "cuda") {
  table.add<Op>({name, DeviceKind::cuda, 10, &reject_on_cuda<Op, kTensors...>, &Op::cuda});
}

}  // namespace filigree
