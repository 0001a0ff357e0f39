#include "layers/sparsity/list_agreement.hpp"

#include <array>
#include <string_view>

#include "kernels/attention/block_selection.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

std::int64_t hash_of(const Tensor& values) {
  return static_cast<std::int64_t>(hash_text(
      {static_cast<const char*>(values.raw()), static_cast<std::size_t>(values.bytes())}));
}

// Part `rank` of what all ranks gave, in the shape of what this rank gave; host tensors.
Tensor gathered_part(Communicator& ranks, const Tensor& mine, int rank) {
  const Tensor all = Tensor::empty({ranks.size() * mine.numel()}, mine.dtype());
  ranks.all_gather(mine.view({mine.numel()}), all);
  return all.flat(rank * mine.numel(), mine.shape());
}

std::string block_name(std::int32_t block) {
  return block < 0 ? "no further block" : str("block ", block);
}

std::string difference_text(const BlockLists& chosen, const BlockLists& expected,
                            std::int64_t layer, int rank, int checker) {
  const auto difference = first_difference(chosen, expected);
  if (!difference) return "";
  const std::int64_t heads = chosen.counts_BHN.dim(1);
  return str("tensor ranks disagree about the blocks of layer ", layer, ": sequence ",
             difference->sequence, ", head ", rank * heads + difference->head, ", group ",
             difference->group, ", entry ", difference->slot, ": rank ", rank, " reads ",
             block_name(difference->left), ", rank ", checker, " makes of the same scores ",
             block_name(difference->right));
}

}  // namespace

std::string disagreement(ExecutionContext& execution, const Mesh& mesh, const BlockGrid& grid,
                         const ChoiceEvidence& evidence) {
  Communicator& ranks = mesh.on(Axis::tensor);
  if (ranks.size() == 1) return "";
  const int next = (ranks.rank() + 1) % ranks.size();
  BlockLists lists = evidence.lists;
  lists.counts_BHN = execution.download(lists.counts_BHN);
  lists.indices_BHNJ = execution.download(lists.indices_BHNJ);
  const Tensor hashes = Tensor::from<std::int64_t>(
      {2}, std::array{hash_of(execution.download(evidence.x_TD)),
                      static_cast<std::int64_t>(block_list_hash(lists))});
  const Tensor of_next = gathered_part(ranks, hashes, next);
  ChoiceInputs inputs = evidence.inputs;
  for (Tensor* const part : {&inputs.scores_BHNM, &inputs.dense_heads_H, &inputs.head_scores_NH})
    if (part->defined())
      *part = execution.upload(gathered_part(ranks, execution.download(*part), next));
  BlockLists chosen = lists;
  chosen.counts_BHN = gathered_part(ranks, lists.counts_BHN, next);
  chosen.indices_BHNJ = gathered_part(ranks, lists.indices_BHNJ, next);
  if (of_next.data<std::int64_t>()[0] != hashes.data<std::int64_t>()[0])
    return str("the input of layer ", evidence.layer, " differs between tensor ranks ",
               ranks.rank(), " and ", next);
  BlockLists expected = choose_blocks(execution, grid, inputs);
  expected.counts_BHN = execution.download(expected.counts_BHN);
  expected.indices_BHNJ = execution.download(expected.indices_BHNJ);
  if (static_cast<std::int64_t>(block_list_hash(expected)) == of_next.data<std::int64_t>()[1])
    return "";
  return difference_text(chosen, expected, evidence.layer, next, ranks.rank());
}

}  // namespace filigree
