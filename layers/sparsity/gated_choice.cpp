#include "layers/sparsity/gated_choice.hpp"

#include <array>
#include <cmath>
#include <functional>

#include "kernels/elementwise/elementwise.hpp"
#include "kernels/gate/gate_statistics.hpp"
#include "kernels/gate/list_check.hpp"
#include "layers/sparsity/baseline_choice.hpp"
#include "layers/sparsity/list_agreement.hpp"
#include "layers/sparsity/observe.hpp"

namespace filigree {
namespace {

// This rank's mean counts by its share of the rows of the whole step. Their number is known without
// asking the others: rows that could teach, were every sequence one document and had attention left
// them some mass.
void add_to_objective(Tape& tape, const DistillTerm& term, const BlockGrid& grid,
                      const std::function<Tensor(std::int64_t)>& groups_at, const BatchInfo& batch,
                      std::int64_t sparse_heads, double weight) {
  const std::int64_t sequences = batch.global_batch == 0 ? batch.batch : batch.global_batch;
  const auto share_at = [groups_at, plain = without_documents(grid),
                         rows_per_group = sparse_heads * sequences, weight](std::int64_t step) {
    const Tensor groups = groups_at(step);
    std::int64_t teaching = 0;
    for (const std::int32_t n : groups.span<std::int32_t>())
      teaching += group_blocks(plain, 0, n).candidates.size() >= 2;
    const std::int64_t rows = std::max<std::int64_t>(1, teaching * rows_per_group);
    return Tensor::from<double>({1}, std::array{weight / static_cast<double>(rows)});
  };
  const Tensor seed = tape.execution().empty(term.total.shape(), term.total.dtype());
  dispatch<Scale>({.x = term.total, .y = seed, .by = batch.step.data(tape.execution(), share_at)},
                  tape.execution());
  tape.add_objective(term.loss, seed);
}

// The teacher's mass inside the lists, and all of it.
std::pair<double, double> mass_in(ExecutionContext& execution, const BlockGrid& grid,
                                  const BlockLists& lists, const GateTeacher& teacher) {
  const DType dtype = teacher.weight_BHR.dtype();
  const Tensor caught = execution.empty({grid.heads}, dtype);
  const Tensor total = execution.empty({grid.heads}, dtype);
  dispatch<GateRecall>({.grid = grid,
                        .counts_BHN = lists.counts_BHN,
                        .indices_BHNJ = lists.indices_BHNJ,
                        .groups_R = teacher.groups_R,
                        .teacher_BHRM = teacher.teacher_BHRM,
                        .weight_BHR = teacher.weight_BHR,
                        .caught_H = caught,
                        .total_H = total},
                       execution);
  return {sum_of(execution, caught), sum_of(execution, total)};
}

void add_recall(ExecutionContext& execution, const AttentionInput& input, const BlockGrid& grid,
                const BlockLists& lists, const GateTeacher& teacher,
                const GateComparison& comparison, LayerStatistics& statistics) {
  const BaselineChoices baselines =
      baseline_choices(execution, input, grid, lists, comparison.layer, comparison.first_head);
  const auto [caught, rows] = mass_in(execution, grid, lists, teacher);
  statistics.caught += caught;
  statistics.caught_rows += rows;
  statistics.caught_random += mass_in(execution, grid, baselines.random, teacher).first;
  statistics.caught_mean_pooled += mass_in(execution, grid, baselines.mean_pooled, teacher).first;
}

// Without a head gate no list is empty.
void add_skipped_heads(const ExecutionContext& execution, BlockGrid grid, const BlockLists& lists,
                       const Tensor& on_device_dense_heads, LayerStatistics& statistics) {
  grid.document_begin_T = execution.download(grid.document_begin_T);
  const Tensor dense_heads = execution.download(on_device_dense_heads);
  const Tensor counts = execution.download(lists.counts_BHN);
  const auto* count = counts.data<std::int32_t>();
  for (std::int64_t b = 0; b < grid.batch; ++b)
    for (std::int64_t h = 0; h < grid.heads; ++h)
      for (std::int64_t n = 0; n < grid.groups(); ++n, ++count) {
        if (!is_head_gated(grid, dense_heads, b, h, n)) continue;
        statistics.head_choices += 1;
        statistics.heads_skipped += *count == 0;
      }
}

}  // namespace

void compare_with_dense(Tape& tape, const AttentionInput& input, const Variable& z,
                        const BlockGrid& grid, const ChoiceInputs& inputs,
                        const AttentionPattern& pattern, const SparsityConfig& config,
                        const GateComparison& comparison) {
  ExecutionContext& execution = tape.execution();
  const BatchInfo& batch = input.batch;
  if (batch.disagreement) {
    const std::string found = disagreement(execution, *comparison.mesh, grid,
                                           {.layer = comparison.layer,
                                            .x_TD = input.x_TD.value(),
                                            .inputs = inputs,
                                            .lists = pattern.lists});
    if (batch.disagreement->empty()) *batch.disagreement = found;
  }
  const bool teaches = batch.training && config.distills();
  if (!teaches && !batch.statistics) return;
  const auto first = static_cast<std::int64_t>(
      std::floor(comparison.skipped_share * static_cast<double>(grid.groups())));
  const auto groups_at = [groups = grid.groups(), share = config.distill_share,
                          first](std::int64_t step) {
    return sampled_groups(groups, share, step, first);
  };
  const Tensor groups = batch.step.data(execution, groups_at);
  LayerStatistics statistics;
  WorkMark work = execution.mark_work();  // without what is only measured
  const GateTeacher teacher = make_teacher(execution, input, grid, groups, inputs.dense_heads_H,
                                           batch.statistics ? &statistics : nullptr);
  const DistillTerm term = distill_loss(tape, z, teacher, grid);
  if (teaches)
    add_to_objective(tape, term, grid, groups_at, batch, comparison.sparse_heads,
                     config.distill_weight);
  if (teaches) work = execution.mark_work();
  if (!batch.statistics) return;
  add_recall(execution, input, grid, pattern.lists, teacher, comparison, statistics);
  observe_pattern(execution, input.shape, grid, pattern, statistics);
  if (config.head_gate)
    add_skipped_heads(execution, grid, pattern.lists, inputs.dense_heads_H, statistics);
  statistics.divergence_rows = sum_of(execution, term.total);
  statistics.divergence = sum_of(execution, term.loss.value()) * statistics.divergence_rows;
  batch.statistics->at(static_cast<std::size_t>(comparison.layer)) = statistics;
  execution.forget_work_since(work);
}

}  // namespace filigree
