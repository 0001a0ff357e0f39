#include "kernels/cuda/registry.hpp"

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/cuda/register_cuda.hpp"
#include "kernels/elementwise/elementwise.hpp"
#include "kernels/norm/rms_norm.hpp"
#include "kernels/optimizer/adamw.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable& table) {
  register_cuda<SwigluForward, &SwigluForward::Arguments::gate_TF>(table);
  register_cuda<SwigluBackward, &SwigluBackward::Arguments::gate_TF>(table);
  register_cuda<SigmoidGateForward, &SigmoidGateForward::Arguments::x_TF>(table);
  register_cuda<SigmoidGateBackward, &SigmoidGateBackward::Arguments::x_TF>(table);
  register_cuda<Add, &Add::Arguments::y>(table);
  register_cuda<Scale, &Scale::Arguments::x, &Scale::Arguments::y>(table);
  register_cuda<Dot, &Dot::Arguments::a>(table);
  register_cuda<RmsNormForward, &RmsNormForward::Arguments::x_TD>(table);
  register_cuda<RmsNormBackward, &RmsNormBackward::Arguments::x_TD>(table);
  register_cuda<AdamW, &AdamW::Arguments::w_N>(table);
  register_cuda<SumSquares, &SumSquares::Arguments::x_N>(table);
}

}  // namespace filigree
