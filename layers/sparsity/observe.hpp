// Measures what a mechanism did, for BatchInfo::statistics.
#pragma once

#include "kernels/gate/block_grid.hpp"
#include "layers/functional/gate.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

// How sequences, which may be packed, are cut into groups and key blocks.
BlockGrid grid_of(const AttentionShape& shape, const Tensor& document_begin_T,
                  std::int64_t query_group, std::int64_t key_block);

// Of `groups`, those that are compared with the dense map at a step: evenly spread over those from
// `first` on, one further in every step, so that each has its turn equally often. As many in every
// step: the nearest number to that share of them, at least one. Ascending, i32 [R].
Tensor sampled_groups(std::int64_t groups, double share, std::int64_t step, std::int64_t first = 0);

// The oracle of those groups: what dense attention gives to each block. Streamed; q and k after
// position embedding. With `statistics`, entropy and largest logit are added to it.
GateTeacher make_teacher(ExecutionContext& execution, const AttentionInput& input,
                         const BlockGrid& grid, const Tensor& groups_R, const Tensor& dense_heads_H,
                         LayerStatistics* statistics);

// Adds pairs and, where the pattern has lists, which are of `grid`, listed blocks and those that
// the grid forces.
void observe_pattern(ExecutionContext& execution, const AttentionShape& shape,
                     const BlockGrid& grid, const AttentionPattern& pattern,
                     LayerStatistics& statistics);

// All that can be said without a gate, written to the layer's entry of input.batch.statistics.
void observe(ExecutionContext& execution, const AttentionInput& input,
             const AttentionPattern& pattern, const SparsityConfig& config, std::int64_t layer);

// Sum of all elements, of f64, f32, i64 or u8.
double sum_of(const ExecutionContext& execution, const Tensor& values);

}  // namespace filigree
