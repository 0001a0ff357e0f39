#include "layers/sparsity/observe.hpp"

#include <cmath>

#include "kernels/attention/pair_count.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/gate_statistics.hpp"

namespace filigree {
namespace {

template <class Visit>
void for_each(const ExecutionContext& execution, const Tensor& values, const Visit& visit) {
  const Tensor host = execution.download(values);
  const Tensor wide = host.dtype() == DType::f64 ? host : host.to(DType::f64);
  for (const double value : wide.span<double>()) visit(value);
}

}  // namespace

double sum_of(const ExecutionContext& execution, const Tensor& values) {
  double sum = 0.0;
  if (values.dtype() == DType::i64) {
    const Tensor host = execution.download(values);
    for (const std::int64_t value : host.span<std::int64_t>()) sum += static_cast<double>(value);
  } else {
    for_each(execution, values, [&](double value) { sum += value; });
  }
  return sum;
}

BlockGrid grid_of(const AttentionShape& shape, const Tensor& document_begin,
                  std::int64_t query_group, std::int64_t key_block) {
  BlockGrid grid;
  grid.batch = shape.batch;
  grid.heads = shape.query_heads;
  grid.query_length = shape.query_length;
  grid.key_length = shape.key_length;
  grid.query_block = query_group;
  grid.key_block = key_block;
  grid.query_offset = shape.query_offset;
  grid.causal = shape.causal;
  grid.document_begin_T = document_begin;
  return grid;
}

Tensor sampled_groups(std::int64_t groups, double share, std::int64_t step, std::int64_t first) {
  const std::int64_t compared = std::max<std::int64_t>(0, groups - first);
  const std::int64_t count =
      std::clamp<std::int64_t>(std::llround(share * static_cast<double>(compared)),
                               std::min<std::int64_t>(1, compared), compared);
  std::vector<std::int32_t> sampled;
  for (std::int64_t i = 0; i < count; ++i)
    sampled.push_back(static_cast<std::int32_t>(first + (i * compared / count + step) % compared));
  std::sort(sampled.begin(), sampled.end());
  return Tensor::from<std::int32_t>({static_cast<std::int64_t>(sampled.size())}, sampled);
}

GateTeacher make_teacher(ExecutionContext& execution, const AttentionInput& input,
                         const BlockGrid& grid, const Tensor& groups, const Tensor& dense_heads,
                         LayerStatistics* statistics) {
  const Tensor q = input.q_THK.value(), k = input.k_TGK.value();
  const DType dtype = accumulation_dtype(q.dtype());
  const Shape rows{grid.batch, grid.heads, groups.numel()};
  GateTeacher teacher;
  teacher.groups_R = groups;
  teacher.teacher_BHRM =
      execution.empty({grid.batch, grid.heads, groups.numel(), grid.key_blocks()}, dtype);
  teacher.weight_BHR = execution.empty(rows, dtype);
  const Tensor entropy = statistics ? execution.empty(rows, dtype) : Tensor();
  const Tensor largest = statistics ? execution.empty(rows, dtype) : Tensor();
  dispatch<BlockMassTeacher>({.grid = grid,
                              .kv_heads = input.shape.kv_heads,
                              .scale = input.shape.scale,
                              .q_THK = q,
                              .k_TGK = k,
                              .groups_R = groups,
                              .dense_heads_H = dense_heads,
                              .teacher_BHRM = teacher.teacher_BHRM,
                              .weight_BHR = teacher.weight_BHR,
                              .entropy_BHR = entropy,
                              .largest_BHR = largest},
                             execution);
  if (statistics) {
    statistics->entropy += sum_of(execution, entropy);
    statistics->entropy_rows += static_cast<double>(entropy.numel());
    for_each(execution, largest, [&](double value) {
      statistics->largest_logit = std::max(statistics->largest_logit, value);
    });
  }
  return teacher;
}

void observe_pattern(ExecutionContext& execution, const AttentionShape& shape,
                     const BlockGrid& grid, const AttentionPattern& pattern,
                     LayerStatistics& statistics) {
  const Tensor counted = execution.empty({2}, DType::i64);
  dispatch<CountPairs>({.shape = shape, .pattern = pattern, .pairs = counted}, execution);
  const Tensor pair_counts = execution.download(counted);
  statistics.pairs += static_cast<double>(pair_counts.data<std::int64_t>()[0]);
  statistics.allowed_pairs += static_cast<double>(pair_counts.data<std::int64_t>()[1]);
  const BlockLists& lists = pattern.lists;
  if (!lists.defined()) return;
  const Shape heads{shape.query_heads};
  const Tensor pairs = execution.empty(heads, DType::i64);
  const Tensor blocks = execution.empty(heads, DType::i64);
  const Tensor forced = execution.empty(heads, DType::i64);
  dispatch<ListStatistics>({.grid = grid,
                            .counts_BHN = lists.counts_BHN,
                            .indices_BHNJ = lists.indices_BHNJ,
                            .pairs_H = pairs,
                            .blocks_H = blocks,
                            .forced_H = forced},
                           execution);
  statistics.blocks += sum_of(execution, blocks);
  statistics.forced_blocks += sum_of(execution, forced);
}

void observe(ExecutionContext& execution, const AttentionInput& input,
             const AttentionPattern& pattern, const SparsityConfig& config, std::int64_t layer) {
  const WorkMark before = execution.mark_work();  // measuring is no work of the model
  LayerStatistics statistics;
  const BlockLists& lists = pattern.lists;
  const BlockGrid read =
      grid_of(input.shape, pattern.document_begin_T, lists.query_block, lists.key_block);
  observe_pattern(execution, input.shape, read, pattern, statistics);
  const BlockGrid grid =
      grid_of(input.shape, pattern.document_begin_T, config.query_group, config.key_block);
  make_teacher(execution, input, grid,
               execution.upload(
                   sampled_groups(grid.groups(), config.distill_share, input.batch.step.once())),
               {}, &statistics);
  execution.forget_work_since(before);
  input.batch.statistics->at(static_cast<std::size_t>(layer)) = statistics;
}

}  // namespace filigree
