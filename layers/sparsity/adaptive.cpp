// Filigree's own mechanism: a learned gate chooses the key blocks that every group of queries
// reads, strictly causally, in training as in decoding. The first block, the one before the group
// and those that overlap it are always read and counted; some heads may stay dense.
//
// The gate learns in two ways, alone or together:
//   distill     KL divergence to what dense attention gives to the blocks (SeerAttention, section
//               3.3), with detached inputs so that the model does not bend to its gate;
//   end_to_end  log of the gate's softmax over the chosen blocks, less its largest, added to their
//               logits, so that the model's own loss reaches the gate.
#include <cmath>

#include "kernels/elementwise/elementwise.hpp"
#include "kernels/gate/gate_statistics.hpp"
#include "layers/functional/functional.hpp"
#include "layers/sparsity/block_budget.hpp"
#include "layers/sparsity/gate.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

struct AdaptiveState final : MechanismState {
  std::unique_ptr<GateState> gate;
  // The choice of the last decoding step; it holds until another group or block begins.
  std::int64_t first_group = -1, blocks = -1;
  BlockLists lists;
  Variable bias;
};

// Heads [0, heads) with floor(h * share) rising: spread evenly, the same on every layout.
std::int64_t dense_before(std::int64_t heads, double share) {
  return static_cast<std::int64_t>(std::floor(static_cast<double>(heads) * share + 1e-9));
}

class AdaptiveMechanism final : public AttentionMechanism {
 public:
  explicit AdaptiveMechanism(const MechanismContext& context);
  std::string_view name() const override { return "adaptive"; }
  MechanismTraits traits() const override;
  Variable attend(Tape& tape, const AttentionInput& input) const override;
  std::unique_ptr<MechanismState> make_state(ExecutionContext& execution,
                                             std::int64_t capacity) const override;

 private:
  struct Choice {
    BlockLists lists;
    Variable bias;  // undefined unless the gate is soft
  };
  Choice choose(Tape& tape, const Variable& z, const BlockGrid& grid, const BatchInfo& batch) const;
  Choice decode(Tape& tape, const AttentionInput& input, const BlockGrid& grid) const;
  Variable gate_input(const Variable& x) const;
  // Distillation and statistics, which share the oracle.
  void compare(Tape& tape, const AttentionInput& input, const Variable& z, const BlockGrid& grid,
               const AttentionPattern& pattern) const;
  void learn(Tape& tape, const DistillTerm& term, const BlockGrid& grid, const Tensor& groups,
             const BatchInfo& batch) const;

  std::int64_t layer_, sparse_heads_;  // sparse heads of the whole model's layer
  SparsityConfig config_;
  BlockGate gate_;
  BlockBudget budget_;
  Tensor dense_heads_H_;  // u8, of this rank's heads; undefined when none is dense
  bool soft_;             // the gate's scores are added to the logits
};

AdaptiveMechanism::AdaptiveMechanism(const MechanismContext& context)
    : layer_(context.layer),
      config_(context.config.sparsity),
      gate_(context),
      budget_(config_, context.config.sequence),
      soft_(config_.learns_end_to_end() &&
            !(config_.selection == "density" && config_.density == 1.0)) {
  const std::int64_t all = context.config.heads, heads = all / context.mesh.size(Axis::tensor);
  const std::int64_t first = heads * context.mesh.coordinate(Axis::tensor);
  const std::int64_t dense = dense_before(all, config_.dense_heads);
  sparse_heads_ = all - dense;
  if (dense == 0) return;
  dense_heads_H_ = Tensor::empty({heads}, DType::u8);
  for (std::int64_t h = 0; h < heads; ++h)
    dense_heads_H_.data<std::uint8_t>()[h] = dense_before(first + h + 1, config_.dense_heads) >
                                             dense_before(first + h, config_.dense_heads);
}

MechanismTraits AdaptiveMechanism::traits() const {
  MechanismTraits traits;
  if (config_.distills()) traits.gradient = GradientKind::distill;
  if (soft_) traits.gradient = GradientKind::end_to_end;
  return traits;
}

std::unique_ptr<MechanismState> AdaptiveMechanism::make_state(ExecutionContext& execution,
                                                              std::int64_t capacity) const {
  auto state = std::make_unique<AdaptiveState>();
  state->gate = gate_.make_state(execution, capacity);
  return state;
}

// Only a gate that the model's loss alone teaches may move what it looks at.
Variable AdaptiveMechanism::gate_input(const Variable& x) const {
  return config_.learn == "end_to_end" ? x : Variable(x.value(), x.placements());
}

AdaptiveMechanism::Choice AdaptiveMechanism::choose(Tape& tape, const Variable& z,
                                                    const BlockGrid& grid,
                                                    const BatchInfo& batch) const {
  ExecutionContext& execution = tape.execution();
  const BlockBudget::Choice budget = budget_.choice(grid, dense_heads_H_.defined(), batch);
  const std::int64_t groups = grid.groups(), blocks = grid.key_blocks();
  const auto indices = [&](const Shape& shape) {
    return execution.empty(shape, DType::i32, MemoryUse::activations);
  };
  Choice choice;
  BlockLists& lists = choice.lists;
  lists.query_block = grid.query_block;
  lists.key_block = grid.key_block;
  lists.counts_BHN = indices({grid.batch, grid.heads, groups});
  lists.indices_BHNJ = indices({grid.batch, grid.heads, groups, budget.capacity});
  lists.transposed_counts_BHM = indices({grid.batch, grid.heads, blocks});
  lists.transposed_indices_BHMN = indices({grid.batch, grid.heads, blocks, groups});
  dispatch<BlockSelect>({.grid = grid,
                         .rule = budget.rule,
                         .threshold = budget.threshold,
                         .scores_BHNM = z.value(),
                         .budgets_N = budget.budgets_N,
                         .dense_heads_H = dense_heads_H_,
                         .counts_BHN = lists.counts_BHN,
                         .indices_BHNJ = lists.indices_BHNJ},
                        execution);
  dispatch<BlockTranspose>({.counts_BHN = lists.counts_BHN,
                            .indices_BHNJ = lists.indices_BHNJ,
                            .transposed_counts_BHM = lists.transposed_counts_BHM,
                            .transposed_indices_BHMN = lists.transposed_indices_BHMN},
                           execution);
  if (soft_) choice.bias = soft_gate_bias(tape, z, lists, dense_heads_H_, grid);
  return choice;
}

AdaptiveMechanism::Choice AdaptiveMechanism::decode(Tape& tape, const AttentionInput& input,
                                                    const BlockGrid& grid) const {
  auto& state = static_cast<AdaptiveState&>(*input.state);
  const Variable queries = gate_.append(tape, input, grid, *state.gate);
  const std::int64_t first_group = grid.query_offset / grid.query_block;
  const bool holds =
      grid.groups() == 1 && state.first_group == first_group && state.blocks == grid.key_blocks();
  if (!holds) {
    const Choice choice =
        choose(tape, gate_.scores_of(tape, queries, grid, *state.gate), grid, input.batch);
    state.lists = choice.lists;
    state.bias = choice.bias;
    // Kept for the next step only when it covers nothing but the group that may go on.
    state.first_group = grid.groups() == 1 ? first_group : -1;
    state.blocks = grid.key_blocks();
  }
  return {state.lists, state.bias};
}

Variable AdaptiveMechanism::attend(Tape& tape, const AttentionInput& input) const {
  AttentionPattern pattern = pattern_within_documents(input);
  const BlockGrid grid =
      grid_of(input.shape, pattern.document_begin_T, config_.query_group, config_.key_block);
  pattern.window = config_.window;
  pattern.sinks = config_.sinks;
  if (input.state) {
    const Choice choice = decode(tape, input, grid);
    pattern.lists = choice.lists;
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern,
                     choice.bias);
  }
  const Variable z =
      gate_.scores(tape, gate_input(input.q_raw_THK), gate_input(input.k_raw_TGK), grid);
  const Choice choice = choose(tape, z, grid, input.batch);
  pattern.lists = choice.lists;
  compare(tape, input, z, grid, pattern);
  return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern, choice.bias);
}

void AdaptiveMechanism::compare(Tape& tape, const AttentionInput& input, const Variable& z,
                                const BlockGrid& grid, const AttentionPattern& pattern) const {
  ExecutionContext& execution = tape.execution();
  const BatchInfo& batch = input.batch;
  const bool teaches = batch.training && config_.distills();
  if (batch.training && !teaches && !soft_) {
    give_zero_gradient(tape, gate_.query_weight());
    give_zero_gradient(tape, gate_.key_weight());
  }
  if (!teaches && !batch.statistics) return;
  LayerStatistics statistics;
  const GateTeacher teacher =
      make_teacher(execution, input, grid, sampled_groups(grid, config_.distill_share, batch.step),
                   dense_heads_H_, batch.statistics ? &statistics : nullptr);
  const DistillTerm term = distill_loss(tape, z, teacher, grid);
  if (teaches) learn(tape, term, grid, teacher.groups_R, batch);
  if (!batch.statistics) return;
  const Tensor caught = execution.empty({grid.heads}, z.value().dtype());
  const Tensor total = execution.empty({grid.heads}, z.value().dtype());
  dispatch<GateRecall>({.grid = grid,
                        .counts_BHN = pattern.lists.counts_BHN,
                        .indices_BHNJ = pattern.lists.indices_BHNJ,
                        .groups_R = teacher.groups_R,
                        .teacher_BHRM = teacher.teacher_BHRM,
                        .weight_BHR = teacher.weight_BHR,
                        .caught_H = caught,
                        .total_H = total},
                       execution);
  observe_pattern(execution, input.shape, pattern, statistics);
  statistics.caught = sum_of(caught);
  statistics.caught_rows = sum_of(total);
  statistics.divergence_rows = sum_of(term.total);
  statistics.divergence = sum_of(term.loss.value()) * statistics.divergence_rows;
  batch.statistics->at(static_cast<std::size_t>(layer_)) = statistics;
}

// The objective is distill_weight times the mean of KL over the teaching rows of the whole step, on
// any layout and in any number of micro-steps: this rank's mean counts by its share of the rows.
// Their number is known without asking the others: rows that could teach, were every sequence one
// document and had attention left them some mass.
void AdaptiveMechanism::learn(Tape& tape, const DistillTerm& term, const BlockGrid& grid,
                              const Tensor& groups, const BatchInfo& batch) const {
  BlockGrid plain = grid;
  plain.document_begin_T = Tensor();
  std::int64_t teaching = 0;
  for (const std::int32_t n : groups.span<std::int32_t>())
    teaching += group_blocks(plain, 0, n).candidates.size() >= 2;
  const std::int64_t sequences = batch.global_batch == 0 ? batch.batch : batch.global_batch;
  const std::int64_t rows = std::max<std::int64_t>(1, teaching * sparse_heads_ * sequences);
  const Tensor seed = tape.execution().empty(term.total.shape(), term.total.dtype());
  dispatch<Scale>(
      {.x = term.total, .y = seed, .factor = config_.distill_weight / static_cast<double>(rows)},
      tape.execution());
  tape.add_objective(term.loss, seed);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_adaptive_mechanism(const MechanismContext& context) {
  return std::make_unique<AdaptiveMechanism>(context);
}

}  // namespace filigree
