#include <algorithm>
#include <cmath>

#include "kernels/attention/block_selection.hpp"

namespace filigree {
namespace {

// What the lists of one group may cost.
struct GroupCost {
  std::int64_t forced, allowed;  // blocks
  std::int64_t rows;             // queries
  std::int64_t diagonal_blocks, diagonal_pairs;

  std::int64_t blocks(std::int64_t k) const { return std::clamp(k, forced, allowed); }
};

GroupCost cost_of(const BlockGrid& grid, std::int64_t n) {
  const GroupBlocks blocks = group_blocks(grid, 0, n);
  const std::int64_t begin = std::max(grid.query_offset, grid.first_position(n));
  const std::int64_t rows = grid.end_position(n) - begin;
  // Query p reads the keys from the diagonal's first to p.
  const std::int64_t before = begin - blocks.diagonal.begin * grid.key_block;
  return {blocks.forced(), blocks.allowed.size(), rows, blocks.diagonal.size(),
          rows * before + rows * (rows + 1) / 2};
}

// Pairs that group n reads with a budget of k blocks.
std::int64_t kept_pairs(const BlockGrid& grid, const GroupCost& cost, std::int64_t k) {
  const std::int64_t count = cost.blocks(k);
  if (!grid.causal) return cost.rows * std::min(count * grid.key_block, grid.key_length);
  return cost.diagonal_pairs + (count - cost.diagonal_blocks) * cost.rows * grid.key_block;
}

}  // namespace

std::int64_t allowed_pairs(const BlockGrid& grid) {
  const std::int64_t rows = grid.query_length;
  if (!grid.causal) return rows * grid.key_length;
  return rows * grid.query_offset + rows * (rows + 1) / 2;
}

std::vector<std::int32_t> budgets_for_density(double density, const BlockGrid& with_documents) {
  if (!(density > 0 && density <= 1))
    throw UserError(str("density ", density, "; allowed: above 0 and at most 1, the share of the ",
                        "allowed query-key pairs that attention reads"));
  const BlockGrid grid = without_documents(with_documents);
  std::vector<GroupCost> costs;
  for (std::int64_t n = 0; n < grid.groups(); ++n) costs.push_back(cost_of(grid, n));
  const auto kept = [&](std::int64_t k) {
    std::int64_t pairs = 0;
    for (const GroupCost& cost : costs) pairs += kept_pairs(grid, cost, k);
    return static_cast<double>(pairs);
  };
  const double target = density * static_cast<double>(allowed_pairs(grid));
  std::int64_t k = 0, too_many = grid.key_blocks() + 1;  // kept(k) grows with k
  while (too_many - k > 1) {
    const std::int64_t middle = (k + too_many) / 2;
    (kept(middle) <= target ? k : too_many) = middle;
  }
  const auto has_room = [k](const GroupCost& c) { return c.blocks(k + 1) > c.blocks(k); };
  const std::int64_t room = std::count_if(costs.begin(), costs.end(), has_room);
  const double step = kept(k + 1) - kept(k);
  const double share = step > 0 ? std::clamp((target - kept(k)) / step, 0.0, 1.0) : 0.0;
  const std::int64_t extra = std::llround(share * static_cast<double>(room));
  std::vector<std::int32_t> budgets;
  std::int64_t seen = 0;  // groups with room
  for (const GroupCost& cost : costs) {
    bool one_more = false;
    if (has_room(cost)) {
      one_more = (seen + 1) * extra / room > seen * extra / room;
      ++seen;
    }
    budgets.push_back(static_cast<std::int32_t>(cost.blocks(k + one_more)));
  }
  return budgets;
}

std::int64_t list_capacity(const BlockGrid& grid, const std::vector<std::int32_t>& budgets,
                           bool has_dense_heads) {
  FILIGREE_CHECK_EQ(static_cast<std::int64_t>(budgets.size()), grid.groups(), "budgets");
  if (has_dense_heads) return grid.key_blocks();
  const BlockGrid plain = without_documents(grid);
  std::int64_t capacity = 0;
  for (std::int64_t n = 0; n < grid.groups(); ++n)
    capacity = std::max(capacity, cost_of(plain, n).blocks(budgets[static_cast<std::size_t>(n)]));
  // Only where a choice may see its own block does a document that begins in it force a block more
  // than the plain grid: the one it begins in, beside the diagonal.
  if (grid.block_causal)
    capacity = std::max(capacity, std::min<std::int64_t>(2, grid.key_blocks()));
  return capacity;
}

}  // namespace filigree
