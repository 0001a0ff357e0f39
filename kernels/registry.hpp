// One line per op family: the functions that put its implementations into the table.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

void register_matmul(KernelTable& table);
void register_rms_norm(KernelTable& table);
void register_embedding(KernelTable& table);
void register_rope(KernelTable& table);
void register_attention(KernelTable& table);
void register_swiglu(KernelTable& table);
void register_elementwise(KernelTable& table);
void register_cross_entropy(KernelTable& table);
void register_adamw(KernelTable& table);
void register_normal_fill(KernelTable& table);

}  // namespace filigree
