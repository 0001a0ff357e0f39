#include "kernels/registry.hpp"

#include "kernels/cuda/registry.hpp"

namespace filigree {

const KernelTable& kernel_table() {
  static const KernelTable table = [] {
    KernelTable result;
    register_matmul(result);
    register_rms_norm(result);
    register_embedding(result);
    register_rope(result);
    register_attention(result);
    register_pair_count(result);
    register_swiglu(result);
    register_sigmoid_gate(result);
    register_elementwise(result);
    register_fill(result);
    register_scalars(result);
    register_cross_entropy(result);
    register_token_losses(result);
    register_adamw(result);
    register_update_factors(result);
    register_normal_fill(result);
    register_block_selection(result);
    register_pooling(result);
    register_head_projection(result);
    register_gate_scores(result);
    register_soft_gate(result);
    register_block_mass(result);
    register_distill_loss(result);
    register_gate_statistics(result);
    register_head_gate(result);
    register_sample_token(result);
    add_cuda_kernels(result);
    return result;
  }();
  return table;
}

std::map<std::string, std::vector<std::string>> KernelTable::names() const {
  std::map<std::string, std::vector<std::string>> result;
  for (const auto& [op, list] : lists_) result[std::string(op)] = list->names();
  return result;
}

}  // namespace filigree
