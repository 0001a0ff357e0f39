// The part of the CUDA backend that also runs under AddressSanitizer.
#include "kernels/activation/swiglu.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/cuda/register_cuda.hpp"
#include "kernels/cuda/registry.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable& table) {
  register_cuda<SwigluForward, &SwigluForward::Arguments::gate_TF>(table);
  register_cuda<SwigluBackward, &SwigluBackward::Arguments::gate_TF>(table);
  register_cuda<AttentionForward>(table);
  table.add<AttentionForward>(
      {"hopper", DeviceKind::cuda, 20, reject_attention_forward_hopper, attention_forward_hopper});
  register_cuda<AttentionBackward>(table);
  table.add<AttentionBackward>({"hopper", DeviceKind::cuda, 20, reject_attention_backward_hopper,
                                attention_backward_hopper});
  register_cuda<BlockMassTeacher, &BlockMassTeacher::Arguments::q_THK>(table);
  register_cuda<CountPairs>(table);
  register_cuda<CountGroupPairs>(table);
  register_cuda<CrossEntropyStatistics, &CrossEntropyStatistics::Arguments::logits_TV>(table);
  register_cuda<CrossEntropyGradient, &CrossEntropyGradient::Arguments::logits_TV>(table);
  register_cuda<RmsNormForward, &RmsNormForward::Arguments::x_TD>(table);
  register_cuda<RmsNormBackward, &RmsNormBackward::Arguments::x_TD>(table);
}

}  // namespace filigree
