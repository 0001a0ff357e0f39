// The implementations that attention.cpp and kernels/cuda/registry.cpp register.
#pragma once

#include "kernels/attention/attention.hpp"

namespace filigree {

void attention_forward_reference(const AttentionForward::Arguments&, ExecutionContext&);
void attention_backward_reference(const AttentionBackward::Arguments&, ExecutionContext&);
// "cpu" takes the best instruction set of this processor, "portable" the one that every processor
// has; so that both are tested and timed wherever the first differs from the second.
void attention_forward_cpu(const AttentionForward::Arguments&, ExecutionContext&);
void attention_forward_portable(const AttentionForward::Arguments&, ExecutionContext&);
void attention_backward_cpu(const AttentionBackward::Arguments&, ExecutionContext&);
void attention_backward_portable(const AttentionBackward::Arguments&, ExecutionContext&);

// "hopper": TMA and wgmma, on GPUs of compute capability 9.0.
void attention_forward_hopper(const AttentionForward::Arguments&, ExecutionContext&);
std::optional<std::string> reject_attention_forward_hopper(const AttentionForward::Arguments&,
                                                           const ExecutionContext&);
void attention_backward_hopper(const AttentionBackward::Arguments&, ExecutionContext&);
std::optional<std::string> reject_attention_backward_hopper(const AttentionBackward::Arguments&,
                                                            const ExecutionContext&);

// Check the tensors against the shape; throw InternalError with the tensor's name.
void check_arguments(const AttentionForward::Arguments&);
void check_arguments(const AttentionBackward::Arguments&);

}  // namespace filigree
