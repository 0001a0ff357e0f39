#include "layers/sparsity/block_budget.hpp"

#include <algorithm>
#include <tuple>

namespace filigree {

double ramp_progress(const SparsityConfig& config, std::int64_t step) {
  const std::int64_t past = step - config.warmup_steps;
  if (past <= 0) return 0.0;
  return past >= config.ramp_steps
             ? 1.0
             : static_cast<double>(past) / static_cast<double>(config.ramp_steps);
}

BlockBudget::BlockBudget(const SparsityConfig& config, std::int64_t sequence, bool block_causal)
    : config_(config),
      sequence_(sequence),
      block_causal_(block_causal),
      target_(reference_budgets(1.0)) {}

namespace {

// Blocks of the last group's diagonal that are still to come. They count as listed, or the group
// would choose others in their place until they come.
std::int32_t diagonal_to_come(const BlockGrid& grid) {
  const std::int64_t n = grid.groups() - 1;
  const std::int64_t last = grid.first_position(n) + grid.query_block - 1;
  return static_cast<std::int32_t>(last / grid.key_block + 1 -
                                   group_blocks(grid, 0, n).diagonal.end);
}

}  // namespace

BlockGrid BlockBudget::reference_grid() const {
  BlockGrid grid;
  grid.batch = grid.heads = 1;
  grid.query_block = config_.query_group;
  grid.key_block = config_.key_block;
  grid.query_length = grid.key_length = sequence_;
  grid.block_causal = block_causal_;
  grid.local_blocks = config_.adaptive_local_blocks();
  return grid;
}

// Of whole groups: also the last one's is what it has when the sequence goes on.
std::vector<std::int32_t> BlockBudget::reference_budgets(double progress) const {
  if (config_.selection == "threshold" && progress > 0.0) return {};
  const BlockGrid grid = reference_grid();
  const bool by_density = config_.selection == "density";
  // The density that is left to fall; of top_k, which has no density of its own, down to nothing.
  const double density = 1.0 - progress * (by_density ? 1.0 - config_.density : 1.0);
  std::vector<std::int32_t> budgets(static_cast<std::size_t>(grid.groups()));
  if (density > 0.0) {
    budgets = budgets_for_density(density, grid);
    budgets.back() += diagonal_to_come(grid);
  }
  if (config_.selection == "top_k")
    for (std::int32_t& budget : budgets)
      budget = std::max(budget, static_cast<std::int32_t>(config_.top_k));
  return budgets;
}

BlockBudget::Choice BlockBudget::choice(const ExecutionContext& execution, const BlockGrid& grid,
                                        bool has_dense_heads, const BatchInfo& batch) const {
  // Budgets do not consider documents.
  const auto at = [this, grid = without_documents(grid), has_dense_heads,
                   training = batch.training](std::int64_t step) {
    return choice_at(training ? ramp_progress(config_, step) : 1.0, grid, has_dense_heads);
  };
  const auto decided = batch.step.decide([at](std::int64_t step) {
    const Choice choice = at(step);
    return std::tuple(choice.rule, choice.threshold, choice.head_threshold, choice.capacity);
  });
  Choice choice;
  std::tie(choice.rule, choice.threshold, choice.head_threshold, choice.capacity) = decided;
  if (choice.rule == SelectionRule::top_k)
    choice.budgets_N =
        batch.step.data(execution, [at](std::int64_t step) { return at(step).budgets_N; });
  return choice;
}

// Of a step at which the ramp has come so far.
BlockBudget::Choice BlockBudget::choice_at(double progress, const BlockGrid& grid,
                                           bool has_dense_heads) const {
  Choice choice;
  if (config_.head_gate) choice.head_threshold = progress * config_.head_threshold;
  if (config_.selection == "threshold" && progress > 0.0) {
    choice.rule = SelectionRule::threshold;
    choice.threshold = progress * config_.threshold;
    choice.capacity = grid.key_blocks();
    return choice;
  }
  const std::vector<std::int32_t> reference =
      progress == 1.0 ? target_ : reference_budgets(progress);
  const std::int64_t groups = grid.groups(), first = grid.query_offset / grid.query_block;
  std::vector<std::int32_t> budgets;
  for (std::int64_t n = first; n < first + groups; ++n)
    budgets.push_back(
        reference[static_cast<std::size_t>(std::min<std::int64_t>(n, std::ssize(reference) - 1))]);
  if (groups > 0) budgets.back() -= diagonal_to_come(grid);
  choice.budgets_N = Tensor::from<std::int32_t>({groups}, budgets);
  choice.capacity = list_capacity(grid, budgets, has_dense_heads);
  return choice;
}

}  // namespace filigree
