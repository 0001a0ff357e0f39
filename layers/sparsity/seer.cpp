// SeerAttention's prefill gate (Gao et al. 2024, arXiv 2410.13276, and its code): queries pooled by
// mean, keys by max, min and mean over blocks of one size, before position embedding; a linear map
// of the pooled keys for every query head; both rotated to the block's first position;
//
//   z[n,m] = <rope(mean of q over block n), rope(W_k [max; min; mean of k over block m])> / sqrt(K)
//
// for m <= n. The softmax over m is distilled from dense attention, the largest probability of
// every pair of blocks (section 3.3); the first quarter of the rows, which have little to choose,
// is left out. The gate is made to be trained alone, on a frozen model: nothing else hears of its
// loss, and the model's loss does not reach it.
//
// The choice sees the whole block of queries, so it is causal between blocks only, and there is
// none for a block that is not complete: it cannot generate. Beyond the publication, the diagonal
// is always read, which keeps rows from being empty, and blocks in which a document begins have no
// score, which keeps documents apart.
#include <cmath>

#include "layers/functional/functional.hpp"
#include "layers/sparsity/gate.hpp"
#include "layers/sparsity/gated_choice.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

class SeerMechanism final : public AttentionMechanism {
 public:
  explicit SeerMechanism(const MechanismContext& context);
  std::string_view name() const override { return "seer"; }
  MechanismTraits traits() const override {
    return {.causality = Causality::block,
            .gradient = config_.distills() ? GradientKind::distill : GradientKind::none,
            .decodes = false};
  }
  Variable attend(Tape& tape, const AttentionInput& input) const override;
  std::unique_ptr<MechanismState> make_state(ExecutionContext&, std::int64_t) const override;

 private:
  Variable scores(Tape& tape, const AttentionInput& input, const BlockGrid& grid) const;

  SparsityConfig config_;
  BlockBudget budget_;
  GateComparison comparison_;
  ParameterStore* store_;
  std::size_t key_;
  RotaryFrequencies rotary_;
};

// Groups of queries are blocks, and no head is dense.
SparsityConfig with_square_blocks(SparsityConfig config) {
  config.query_group = config.key_block;
  return config;
}

SeerMechanism::SeerMechanism(const MechanismContext& context)
    : config_(with_square_blocks(context.config.sparsity)),
      budget_(config_, context.config.sequence, true),
      store_(&context.store),
      rotary_(context.config.rotary()) {
  const ModelConfig& model = context.config;
  comparison_ = {.mesh = &context.mesh,
                 .layer = context.layer,
                 .sparse_heads = model.heads,
                 .first_head = model.heads / context.mesh.size(Axis::tensor) *
                               context.mesh.coordinate(Axis::tensor),
                 .skipped_share = 0.25};
  key_ = add_gate_projection(context.name + ".gate.key", model.heads * model.head_dim,
                             3 * model.head_dim, model.initial_deviation, context);
}

std::unique_ptr<MechanismState> SeerMechanism::make_state(ExecutionContext&, std::int64_t) const {
  throw UserError(
      "model.mechanism = seer cannot generate: its gate pools whole blocks of queries; eval and "
      "score work, and a model with mechanism adaptive or dense generates");
}

Variable SeerMechanism::scores(Tape& tape, const AttentionInput& input,
                               const BlockGrid& grid) const {
  const AttentionShape& shape = input.shape;
  const auto turned = [&](const Variable& rows, std::int64_t count) {
    const Tensor positions = block_positions(grid.batch, count, grid.key_block);
    return rope(tape, rows, tape.execution().upload(positions), shape.head_dim, rotary_);
  };
  const auto detached = [](const Variable& x) { return Variable(x.value(), x.placements()); };
  const Variable queries = group_mean_queries(tape, detached(input.q_raw_THK), grid.batch,
                                              grid.query_block, grid.document_begin_T);
  const Variable pools = block_max_min_mean_keys(tape, detached(input.k_raw_TGK), grid.batch,
                                                 grid.key_block, shape.kv_heads);
  const Variable keys =
      head_projection(tape, pools, store_->variable(key_), shape.query_heads, shape.kv_heads);
  return gate_scores(tape, turned(queries, grid.groups()), turned(keys, grid.key_blocks()), grid,
                     1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
}

Variable SeerMechanism::attend(Tape& tape, const AttentionInput& input) const {
  AttentionPattern pattern = pattern_within_documents(input);
  BlockGrid grid =
      grid_of(input.shape, pattern.document_begin_T, config_.query_group, config_.key_block);
  grid.block_causal = true;
  const Variable z = scores(tape, input, grid);
  const ChoiceInputs inputs{.scores_BHNM = z.value(),
                            .budget = budget_.choice(tape.execution(), grid, false, input.batch),
                            .dense_heads_H = {},
                            .head_scores_NH = {}};
  pattern.lists = choose_blocks(tape.execution(), grid, inputs);
  if (input.batch.training && !config_.distills()) give_zero_gradient(tape, store_->variable(key_));
  compare_with_dense(tape, input, z, grid, inputs, pattern, config_, comparison_);
  return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_seer_mechanism(const MechanismContext& context) {
  return std::make_unique<SeerMechanism>(context);
}

}  // namespace filigree
