#include <algorithm>

#include "kernels/attention/block_selection.hpp"
#include "runtime/core/random.hpp"

namespace filigree {

std::uint64_t block_list_hash(const BlockLists& lists) {
  const Shape& shape = lists.counts_BHN.shape();
  const std::int64_t rows = lists.counts_BHN.numel(), J = columns_of(lists.indices_BHNJ);
  const auto* counts = lists.counts_BHN.data<std::int32_t>();
  const auto* indices = lists.indices_BHNJ.data<std::int32_t>();
  std::vector<std::int32_t> words = {static_cast<std::int32_t>(lists.query_block),
                                     static_cast<std::int32_t>(lists.key_block)};
  for (const std::int64_t size : shape.sizes()) words.push_back(static_cast<std::int32_t>(size));
  for (std::int64_t row = 0; row < rows; ++row) {
    words.push_back(counts[row]);
    words.insert(words.end(), indices + row * J, indices + row * J + counts[row]);
  }
  return hash_text({reinterpret_cast<const char*>(words.data()), 4 * words.size()});
}

std::optional<ListDifference> first_difference(const BlockLists& left, const BlockLists& right) {
  const Shape& shape = left.counts_BHN.shape();
  FILIGREE_CHECK_EQ(shape, right.counts_BHN.shape(), "lists of other sequences, heads or groups");
  const std::int64_t H = shape[1], N = shape[2];
  struct Row {
    const std::int32_t* begin;
    std::int64_t count;
    std::int32_t at(std::int64_t slot) const { return slot < count ? begin[slot] : -1; }
  };
  const auto row_of = [](const BlockLists& lists, std::int64_t row) {
    return Row{lists.indices_BHNJ.data<std::int32_t>() + row * columns_of(lists.indices_BHNJ),
               lists.counts_BHN.data<std::int32_t>()[row]};
  };
  for (std::int64_t row = 0; row < shape.numel(); ++row) {
    const Row a = row_of(left, row), b = row_of(right, row);
    for (std::int64_t slot = 0; slot < std::max(a.count, b.count); ++slot)
      if (a.at(slot) != b.at(slot))
        return ListDifference{row / (H * N), row / N % H, row % N, slot, a.at(slot), b.at(slot)};
  }
  return std::nullopt;
}

}  // namespace filigree
