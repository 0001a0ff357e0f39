// One line per op family: the functions that put its implementations into the table.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

void register_matmul(KernelTable& table);
void register_rms_norm(KernelTable& table);
void register_embedding(KernelTable& table);
void register_rope(KernelTable& table);
void register_attention(KernelTable& table);
void register_pair_count(KernelTable& table);
void register_swiglu(KernelTable& table);
void register_sigmoid_gate(KernelTable& table);
void register_elementwise(KernelTable& table);
void register_fill(KernelTable& table);
void register_scalars(KernelTable& table);
void register_cross_entropy(KernelTable& table);
void register_token_losses(KernelTable& table);
void register_adamw(KernelTable& table);
void register_update_factors(KernelTable& table);
void register_normal_fill(KernelTable& table);
void register_block_selection(KernelTable& table);
void register_pooling(KernelTable& table);
void register_head_projection(KernelTable& table);
void register_gate_scores(KernelTable& table);
void register_soft_gate(KernelTable& table);
void register_block_mass(KernelTable& table);
void register_distill_loss(KernelTable& table);
void register_gate_statistics(KernelTable& table);
void register_head_gate(KernelTable& table);
void register_sample_token(KernelTable& table);

}  // namespace filigree
