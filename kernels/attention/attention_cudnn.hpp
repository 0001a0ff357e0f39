// Dense attention through cuDNN, in programs that link it: the alternative to the kernels of this
// folder, and what they are measured against. Its priority is below theirs, so that it runs where
// forced_kernels names "cudnn".
#pragma once

#include <array>
#include <optional>

#include "kernels/attention/attention.hpp"
#include "runtime/core/library_version.hpp"

namespace filigree {

// Nothing in a program that does not link it.
std::optional<LibraryVersion> cudnn_version();
void add_cudnn_attention(KernelTable& table);

// A tensor as cuDNN sees it: sizes of [B, heads, tokens, width], and how many elements apart two
// neighbours of each are.
struct CudnnView {
  std::array<std::int64_t, 4> dims, strides;
};
CudnnView cudnn_view_of_queries(const AttentionShape& shape);  // of [B*Sq, H*K]: q, o and gradients
CudnnView cudnn_view_of_keys(const AttentionShape& shape);     // of [B*Sk, G*K]: k, v and gradients
CudnnView cudnn_view_of_lse(const AttentionShape& shape);      // of [B, H, Sq]

// Which pairs of cuDNN's causal mask are those of this shape: j <= i, or j <= i + Sk - Sq.
enum class CudnnMask { none, from_first_key, to_last_key };
// Nothing where cuDNN has no such mask.
std::optional<CudnnMask> cudnn_mask(const AttentionShape& shape);

// Has cuDNN check the graphs of forward and backward for GPUs of a compute capability, 90 for 9.0,
// and take them in; no GPU is needed. Throws InternalError with what it objects to.
void check_cudnn_attention(const AttentionShape& shape, bool deterministic, int capability);

}  // namespace filigree
