// Filigree's own mechanism: a learned gate chooses the key blocks that every group of queries
// reads, strictly causally, in training as in decoding. The first block, the one before the group
// and those that overlap it are always read and counted; some heads may stay dense.
//
// The gate learns in two ways, alone or together:
//   distill     KL divergence to what dense attention gives to the blocks (SeerAttention, section
//               3.3), with detached inputs so that the model does not bend to its gate;
//   end_to_end  log of the gate's softmax over the chosen blocks, less its largest, added to their
//               logits, so that the model's own loss reaches the gate; not in the warm-up, and
//               rising to its full size over the ramp.
// With head_gate, a head that is not worth its work for a group lists nothing for it, and what the
// others give is multiplied by the head gate's value, from which it learns (head_gate.hpp).
#include <cmath>
#include <optional>

#include "layers/functional/functional.hpp"
#include "layers/sparsity/block_budget.hpp"
#include "layers/sparsity/gate.hpp"
#include "layers/sparsity/gated_choice.hpp"
#include "layers/sparsity/head_gate.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

struct AdaptiveState final : MechanismState {
  std::unique_ptr<GateState> gate;
  // The choice of the last decoding step; it holds until another group or block begins.
  std::int64_t first_group = -1, blocks = -1;
  BlockLists lists;
  Variable bias, heads;
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
    ChoiceInputs inputs;
    BlockLists lists;
    Variable bias;   // undefined unless the gate is soft
    Variable heads;  // undefined without a head gate
  };
  Choice choose(Tape& tape, const Variable& z, const Variable& heads, const BlockGrid& grid,
                const BatchInfo& batch) const;
  Variable read(Tape& tape, const AttentionInput& input, const AttentionPattern& pattern,
                const Choice& choice, const BlockGrid& grid) const;
  void leave_untaught(Tape& tape, const BatchInfo& batch) const;
  Choice decode(Tape& tape, const AttentionInput& input, const BlockGrid& grid) const;
  Variable gate_input(const Variable& x) const;
  double bias_strength(const BatchInfo& batch) const;

  SparsityConfig config_;
  BlockGate gate_;
  std::optional<HeadGate> head_gate_;
  BlockBudget budget_;
  Tensor dense_heads_H_;  // u8, of this rank's heads; undefined when none is dense
  GateComparison comparison_;
  bool soft_;  // the gate's scores are added to the logits
};

AdaptiveMechanism::AdaptiveMechanism(const MechanismContext& context)
    : config_(context.config.sparsity),
      gate_(context),
      budget_(config_, context.config.sequence),
      soft_(config_.learns_end_to_end() &&
            !(config_.selection == "density" && config_.density == 1.0)) {
  if (config_.head_gate) head_gate_.emplace(context);
  const std::int64_t all = context.config.heads, heads = all / context.mesh.size(Axis::tensor);
  const std::int64_t first = heads * context.mesh.coordinate(Axis::tensor);
  const std::int64_t dense = dense_before(all, config_.dense_heads);
  comparison_ = {.mesh = &context.mesh,
                 .layer = context.layer,
                 .sparse_heads = all - dense,
                 .first_head = first};
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

// In the warm-up the chosen blocks are all blocks and their gate has no say: one that knows little
// would hinder the model. (A head gate multiplies from the start.)
double AdaptiveMechanism::bias_strength(const BatchInfo& batch) const {
  if (!soft_ || !batch.training) return soft_ ? 1.0 : 0.0;
  return batch.step.decide([this](std::int64_t step) { return ramp_progress(config_, step); });
}

AdaptiveMechanism::Choice AdaptiveMechanism::choose(Tape& tape, const Variable& z,
                                                    const Variable& heads, const BlockGrid& grid,
                                                    const BatchInfo& batch) const {
  ExecutionContext& execution = tape.execution();
  Choice choice;
  const Tensor dense_heads = execution.upload(dense_heads_H_);
  choice.inputs = {.scores_BHNM = z.value(),
                   .budget = budget_.choice(execution, grid, dense_heads_H_.defined(), batch),
                   .dense_heads_H = dense_heads,
                   .head_scores_NH = heads.defined() ? heads.value() : Tensor()};
  choice.lists = choose_blocks(execution, grid, choice.inputs);
  choice.heads = heads;
  const double strength = bias_strength(batch);
  if (strength > 0.0)
    choice.bias = soft_gate_bias(tape, z, choice.lists, dense_heads, grid, strength);
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
    const Variable heads =
        head_gate_ ? head_gate_->scores(tape, queries, state.gate->finished(grid, queries), grid)
                   : Variable();
    const Choice choice =
        choose(tape, gate_.scores_of(tape, queries, grid, *state.gate), heads, grid, input.batch);
    state.lists = choice.lists;
    state.bias = choice.bias;
    state.heads = choice.heads;
    // Kept for the next step only when it covers nothing but the group that may go on.
    state.first_group = grid.groups() == 1 ? first_group : -1;
    state.blocks = grid.key_blocks();
  }
  return {.inputs = {}, .lists = state.lists, .bias = state.bias, .heads = state.heads};
}

Variable AdaptiveMechanism::attend(Tape& tape, const AttentionInput& input) const {
  AttentionPattern pattern = pattern_within_documents(input);
  BlockGrid grid =
      grid_of(input.shape, pattern.document_begin_T, config_.query_group, config_.key_block);
  grid.local_blocks = config_.adaptive_local_blocks();
  pattern.window = config_.window;
  pattern.sinks = config_.sinks;
  if (input.state) {
    const Choice choice = decode(tape, input, grid);
    pattern.lists = choice.lists;
    return read(tape, input, pattern, choice, grid);
  }
  const Variable queries =
      group_queries(tape, gate_input(input.q_raw_THK), grid.batch, grid.query_block);
  const Variable keys = gate_input(input.k_raw_TGK);
  const Variable pools =
      block_max_min_mean_keys(tape, keys, grid.batch, grid.key_block, input.shape.kv_heads);
  const Variable z = gate_.scores(tape, queries, pools, grid);
  const Variable heads =
      head_gate_ ? head_gate_->scores(tape, queries,
                                      block_mean_keys(tape, keys, grid.batch, grid.key_block), grid)
                 : Variable();
  const Choice choice = choose(tape, z, heads, grid, input.batch);
  pattern.lists = choice.lists;
  if (input.batch.training) leave_untaught(tape, input.batch);
  compare_with_dense(tape, input, z, grid, choice.inputs, pattern, config_, comparison_);
  return read(tape, input, pattern, choice, grid);
}

Variable AdaptiveMechanism::read(Tape& tape, const AttentionInput& input,
                                 const AttentionPattern& pattern, const Choice& choice,
                                 const BlockGrid& grid) const {
  const Variable attended =
      attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern, choice.bias);
  if (!head_gate_) return attended;
  return scale_heads(tape, attended, choice.heads, tape.execution().upload(dense_heads_H_), grid);
}

// The weights that no loss reaches.
void AdaptiveMechanism::leave_untaught(Tape& tape, const BatchInfo& batch) const {
  if (!config_.distills() && bias_strength(batch) == 0.0) {
    give_zero_gradient(tape, gate_.query_weight());
    give_zero_gradient(tape, gate_.key_weight());
  }
  if (head_gate_ && config_.learn == "none") {
    give_zero_gradient(tape, head_gate_->query_weight());
    give_zero_gradient(tape, head_gate_->key_weight());
  }
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_adaptive_mechanism(const MechanismContext& context) {
  return std::make_unique<AdaptiveMechanism>(context);
}

}  // namespace filigree
