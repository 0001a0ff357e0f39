// Tensor ranks compare what they chose, and one that chose otherwise is named.
#include "layers/sparsity/list_agreement.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/attention/block_selection.hpp"
#include "layers/sparsity/gate.hpp"
#include "layers/sparsity/gated_choice.hpp"
#include "parallel/run_ranks.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_tensor;

constexpr std::int64_t kBlock = 16, kBlocks = 8, kLength = kBlock * kBlocks;

BlockGrid grid_of(std::int64_t batch, std::int64_t heads) {
  BlockGrid grid;
  grid.batch = batch;
  grid.heads = heads;
  grid.query_length = grid.key_length = kLength;
  grid.query_block = grid.key_block = kBlock;
  return grid;
}

// Five blocks where there are so many; the last head of each rank is dense.
ChoiceInputs inputs_of(const Tensor& scores, const BlockGrid& grid, bool with_dense_head = false) {
  ChoiceInputs inputs;
  inputs.scores_BHNM = scores;
  inputs.budget.capacity = with_dense_head ? grid.key_blocks() : 5;
  inputs.budget.budgets_N = Tensor::empty({grid.groups()}, DType::i32);
  std::fill_n(inputs.budget.budgets_N.data<std::int32_t>(), grid.groups(), 5);
  if (!with_dense_head) return inputs;
  inputs.dense_heads_H = Tensor::zeros({grid.heads}, DType::u8);
  inputs.dense_heads_H.data<std::uint8_t>()[grid.heads - 1] = 1;
  return inputs;
}

// What every rank finds, after `change` has had its way with the evidence of each.
std::vector<std::string> findings(const std::function<void(int, ChoiceEvidence&)>& change,
                                  const std::function<void(ChoiceInputs&)>& choose_by = {}) {
  std::vector<std::string> found(3);
  run_ranks(3, [&](std::shared_ptr<Communicator> world) {
    const Mesh mesh(world, {.tensor = 3});
    const auto rank = static_cast<std::uint64_t>(world->rank());
    const BlockGrid grid = grid_of(2, 2);
    ExecutionContext execution;
    ChoiceEvidence evidence{.layer = 4, .x_TD = random_tensor({2 * kLength, 6}, 1)};
    evidence.inputs = inputs_of(random_tensor({2, 2, kBlocks, kBlocks}, 10 + rank), grid);
    if (choose_by) choose_by(evidence.inputs);
    evidence.lists = choose_blocks(execution, grid, evidence.inputs);
    change(world->rank(), evidence);
    found[rank] = disagreement(execution, mesh, grid, evidence);
  });
  return found;
}

TEST(ListAgreement, SaysNothingWhereRanksChoseAsTheirScoresSay) {
  EXPECT_EQ(findings([](int, ChoiceEvidence&) {}), (std::vector<std::string>{"", "", ""}));
}

// Group 7 of a head reads blocks 0, 6 and 7, which are forced, and two of 1 to 5.
TEST(ListAgreement, NamesLayerHeadGroupAndTheFirstBlockThatDiffers) {
  std::int32_t right = 0, wrong = 0;
  const std::vector<std::string> found = findings([&](int rank, ChoiceEvidence& evidence) {
    if (rank != 1) return;
    // Sequence 1, head 1 of this rank's two, the last group, its second entry.
    const std::int64_t list = (1 * 2 + 1) * kBlocks + 7;
    auto* const entries = evidence.lists.indices_BHNJ.data<std::int32_t>() + list * 5;
    // The lists ascend: another candidate below the third entry, which lies between 2 and 5.
    right = entries[1];
    wrong = right > 1 ? right - 1 : right + 1;
    if (wrong == entries[2]) entries[2] = wrong + 1;
    entries[1] = wrong;
  });
  EXPECT_EQ(found[0],
            str("tensor ranks disagree about the blocks of layer 4: sequence 1, head 3, group 7, "
                "entry 1: rank 1 reads block ",
                wrong, ", rank 0 makes of the same scores block ", right));
  EXPECT_EQ(found[1], "");
  EXPECT_EQ(found[2], "");
}

// Of equal scores the lower index is right; this rank took the higher ones.
TEST(ListAgreement, NoticesATieThatWasBrokenTheOtherWay) {
  const std::vector<std::string> found = findings([](int rank, ChoiceEvidence& evidence) {
    if (rank != 2) return;
    const Tensor rising = Tensor::empty({2, 2, kBlocks, kBlocks}, DType::f64);
    for (std::int64_t i = 0; i < rising.numel(); ++i)
      rising.data<double>()[i] = static_cast<double>(i % kBlocks);
    ExecutionContext execution;
    evidence.lists = choose_blocks(execution, grid_of(2, 2), inputs_of(rising, grid_of(2, 2)));
    evidence.inputs.scores_BHNM = Tensor::zeros(rising.shape(), DType::f64);
  });
  EXPECT_EQ(found[1],
            "tensor ranks disagree about the blocks of layer 4: sequence 0, head 4, group 5, entry "
            "1: rank 2 reads block 2, rank 1 makes of the same scores block 1");
  EXPECT_EQ(found[0] + found[2], "");
}

// A budget is not taken from the rank that is checked.
TEST(ListAgreement, NoticesAListOfAnotherLength) {
  const std::vector<std::string> found = findings([](int rank, ChoiceEvidence& evidence) {
    if (rank != 1) return;
    const std::int64_t list = 6;  // sequence 0, head 0
    std::int32_t& count = evidence.lists.counts_BHN.data<std::int32_t>()[list];
    EXPECT_EQ(count, 5);
    evidence.lists.indices_BHNJ.data<std::int32_t>()[list * 5 + 4] = -1;
    count = 4;
  });
  EXPECT_EQ(found[0],
            "tensor ranks disagree about the blocks of layer 4: sequence 0, head 2, group 6, entry "
            "4: rank 1 reads no further block, rank 0 makes of the same scores block 6");
  EXPECT_EQ(found[1] + found[2], "");
}

// What skips or fills a list travels with the scores.
TEST(ListAgreement, KnowsDenseAndSkippedHeads) {
  const auto dense = [](ChoiceInputs& inputs) {
    inputs = inputs_of(inputs.scores_BHNM, grid_of(2, 2), true);
  };
  const auto gated = [](ChoiceInputs& inputs) {
    inputs.budget.head_threshold = 0.5;
    inputs.head_scores_NH = Tensor::empty({2 * kBlocks, 2}, DType::f64);
    for (std::int64_t i = 0; i < inputs.head_scores_NH.numel(); ++i)
      inputs.head_scores_NH.data<double>()[i] =
          inputs.scores_BHNM.data<double>()[i] > 0 ? 0.9 : 0.1;
  };
  const auto shorten = [](int rank, ChoiceEvidence& evidence) {
    if (rank != 0) return;
    auto* count = evidence.lists.counts_BHN.data<std::int32_t>();
    while (*count == 0) ++count;
    *count -= 1;
  };
  for (const std::function<void(ChoiceInputs&)>& choose_by :
       {std::function<void(ChoiceInputs&)>(dense), std::function<void(ChoiceInputs&)>(gated)}) {
    EXPECT_EQ(findings([](int, ChoiceEvidence&) {}, choose_by),
              (std::vector<std::string>{"", "", ""}));
    EXPECT_NE(findings(shorten, choose_by)[2], "");
  }
}

TEST(ListAgreement, NoticesAnInputThatIsNotTheSameEverywhere) {
  const std::vector<std::string> found = findings([](int rank, ChoiceEvidence& evidence) {
    if (rank == 2) evidence.x_TD.data<double>()[77] += 1e-13;
  });
  EXPECT_EQ(found[0], "");
  EXPECT_EQ(found[1], "the input of layer 4 differs between tensor ranks 1 and 2");
  EXPECT_EQ(found[2], "the input of layer 4 differs between tensor ranks 2 and 0");
}

ModelConfig gate_config() {
  ModelConfig config = testing::tiny_config();
  config.mechanism = "adaptive";
  config.sequence = kLength;
  config.sparsity.key_block = config.sparsity.query_group = kBlock;
  return config.resolved(0);
}

// What the gate of a layer chooses for this rank's sequences and heads of two sequences.
BlockLists choice_on(const Mesh& mesh) {
  const ModelConfig config = gate_config();
  ExecutionContext execution;
  ParameterStore store;
  const BlockGate gate({"attention", 0, config, mesh, store});
  store.materialise(DType::f64, 5, execution);
  const ShardRange rows = shard_range(2, mesh.size(Axis::data), mesh.coordinate(Axis::data));
  const Placements split = Placements()
                               .with(Axis::data, Placement::sharded(0))
                               .with(Axis::tensor, Placement::sharded(1));
  // Rows of this rank's sequences and heads, `columns` for each head.
  const auto mine = [&](std::int64_t pieces, std::int64_t heads, std::int64_t columns,
                        std::uint64_t stream) {
    const Tensor all = random_tensor({2 * pieces, heads * columns}, stream);
    const ShardRange range =
        shard_range(heads, mesh.size(Axis::tensor), mesh.coordinate(Axis::tensor));
    const std::int64_t width = range.size() * columns;
    const Tensor part = Tensor::empty({rows.size() * pieces, width}, DType::f64);
    for (std::int64_t r = 0; r < part.dim(0); ++r)
      std::copy_n(
          all.data<double>() + (rows.begin * pieces + r) * all.dim(1) + range.begin * columns,
          width, part.data<double>() + r * width);
    return Variable(part, split);
  };
  const BlockGrid grid = grid_of(rows.size(), config.heads / mesh.size(Axis::tensor));
  Tape tape(execution, Tape::Mode::inference);
  const Variable scores = gate.scores(tape, mine(kBlocks, config.heads, config.head_dim, 2),
                                      mine(kBlocks, config.kv_heads, 3 * config.head_dim, 3), grid);
  return choose_blocks(execution, grid, inputs_of(scores.value(), grid));
}

TEST(ListAgreement, ListsAreTheSameOnEveryLayout) {
  const BlockLists all = choice_on(Mesh(self_communicator("world"), {}));
  const std::int64_t heads = all.counts_BHN.dim(1), list = 5;
  for (const MeshShape& shape :
       {MeshShape{.data = 2}, MeshShape{.tensor = 2}, MeshShape{.data = 2, .tensor = 2}})
    run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
      const Mesh mesh(std::move(world), shape);
      const BlockLists part = choice_on(mesh);
      const std::int64_t local = part.counts_BHN.dim(1);
      for (std::int64_t b = 0; b < part.counts_BHN.dim(0); ++b)
        for (std::int64_t i = 0; i < local * kBlocks * list; ++i) {
          const std::int64_t sequence = mesh.coordinate(Axis::data) + b;
          const std::int64_t head = mesh.coordinate(Axis::tensor) * local;
          ASSERT_EQ(
              part.indices_BHNJ.data<std::int32_t>()[b * local * kBlocks * list + i],
              all.indices_BHNJ.data<std::int32_t>()[(sequence * heads + head) * kBlocks * list + i])
              << mesh.describe() << " sequence " << b << " entry " << i;
        }
    });
}

}  // namespace
}  // namespace filigree
