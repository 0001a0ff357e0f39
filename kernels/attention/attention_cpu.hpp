// The forms that the fast attention on the processor takes; attention_cpu.cpp chooses. All of them
// expect checked arguments.
#pragma once

#include "kernels/attention/attention.hpp"
#include "kernels/cpu/tile_kernels.hpp"

namespace filigree {

// Tiles of queries over the keys that they read: dense, or groups large enough to fill vectors.
void attention_forward_tiles(const AttentionForward::Arguments&, const CpuKernels&,
                             ExecutionContext&);
void attention_backward_tiles(const AttentionBackward::Arguments&, const CpuKernels&,
                              ExecutionContext&);

// A few queries, as in decoding: one at a time over the keys that it reads, and only those.
void attention_forward_rows(const AttentionForward::Arguments&, const CpuKernels&,
                            ExecutionContext&);

// Lists of small groups: blocks of keys over the queries that read them, gathered through the
// transposed lists.
void attention_forward_gathered(const AttentionForward::Arguments&, const CpuKernels&,
                                ExecutionContext&);
void attention_backward_gathered(const AttentionBackward::Arguments&, const CpuKernels&,
                                 ExecutionContext&);

}  // namespace filigree
