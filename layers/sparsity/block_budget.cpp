#include "layers/sparsity/block_budget.hpp"

#include <algorithm>

namespace filigree {

double ramp_progress(const SparsityConfig& config, const BatchInfo& batch) {
  if (!batch.training) return 1.0;
  const std::int64_t past = batch.step - config.warmup_steps;
  if (past <= 0) return 0.0;
  return past >= config.ramp_steps
             ? 1.0
             : static_cast<double>(past) / static_cast<double>(config.ramp_steps);
}

BlockBudget::BlockBudget(const SparsityConfig& config, std::int64_t sequence)
    : config_(config), sequence_(sequence), target_(reference_budgets(1.0)) {}

BlockGrid BlockBudget::reference_grid() const {
  BlockGrid grid;
  grid.batch = grid.heads = 1;
  grid.query_block = config_.query_group;
  grid.key_block = config_.key_block;
  // Whole groups only, so that no budget depends on where the last one is cut.
  grid.query_length = (sequence_ + grid.query_block - 1) / grid.query_block * grid.query_block;
  grid.key_length = grid.query_length;
  return grid;
}

std::vector<std::int32_t> BlockBudget::reference_budgets(double progress) const {
  const BlockGrid grid = reference_grid();
  if (progress == 0.0)
    return std::vector(static_cast<std::size_t>(grid.groups()),
                       static_cast<std::int32_t>(grid.key_blocks()));
  if (config_.selection == "density")
    return budgets_for_density(1.0 - progress * (1.0 - config_.density), grid);
  if (config_.selection == "threshold") return {};
  // top_k: from everything down to it, where the falling density meets it.
  std::vector<std::int32_t> budgets(static_cast<std::size_t>(grid.groups()));
  if (progress < 1.0) budgets = budgets_for_density(1.0 - progress, grid);
  for (std::int32_t& budget : budgets)
    budget = std::max(budget, static_cast<std::int32_t>(config_.top_k));
  return budgets;
}

BlockBudget::Choice BlockBudget::choice(const BlockGrid& grid, bool has_dense_heads,
                                        const BatchInfo& batch) const {
  const double progress = ramp_progress(config_, batch);
  const std::int64_t groups = grid.groups(), first = grid.query_offset / grid.query_block;
  Choice choice;
  if (config_.selection == "threshold" && progress > 0.0) {
    choice.rule = SelectionRule::threshold;
    choice.threshold = progress * config_.threshold;
    choice.capacity = grid.key_blocks();
    return choice;
  }
  const std::vector<std::int32_t> reference =
      progress == 1.0 ? target_ : reference_budgets(progress);
  std::vector<std::int32_t> budgets;
  for (std::int64_t n = 0; n < groups; ++n)
    budgets.push_back(reference[static_cast<std::size_t>(
        std::min<std::int64_t>(first + n, std::ssize(reference) - 1))]);
  if (groups > 0) {
    // Blocks of the last group's diagonal that are still to come count as listed, or the group
    // would choose others in their place.
    const std::int64_t last = grid.first_position(groups - 1) + grid.query_block - 1;
    const std::int64_t whole = last / grid.key_block + 1;
    budgets.back() -=
        static_cast<std::int32_t>(whole - group_blocks(grid, 0, groups - 1).diagonal.end);
  }
  choice.budgets_N = Tensor::from<std::int32_t>({groups}, budgets);
  choice.capacity = list_capacity(grid, budgets, has_dense_heads);
  return choice;
}

}  // namespace filigree
