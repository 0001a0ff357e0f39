#include "layers/sparsity/gate.hpp"

#include <cmath>

#include "layers/functional/functional.hpp"
#include "layers/linear.hpp"

namespace filigree {
std::size_t add_gate_projection(const std::string& name, std::int64_t rows, std::int64_t columns,
                                double deviation, const MechanismContext& context) {
  Parameter weight =
      make_parameter(name + ".weight", rows, columns, Placement::sharded(0), context.mesh);
  weight.initialisation.deviation = deviation;
  weight.decays = false;
  weight.gate = true;
  return context.store.add(std::move(weight));
}

Tensor block_positions(std::int64_t batch, std::int64_t count, std::int64_t step,
                       std::int64_t first, std::int64_t unit) {
  const Tensor positions = Tensor::empty({batch * count}, DType::i32);
  for (std::int64_t i = 0; i < batch * count; ++i)
    positions.data<std::int32_t>()[i] =
        static_cast<std::int32_t>((first + i % count * step) / unit);
  return positions;
}

BlockGate::BlockGate(const MechanismContext& context)
    : store_(&context.store),
      heads_(context.config.heads / context.mesh.size(Axis::tensor)),
      kv_heads_(
          std::max<std::int64_t>(1, context.config.kv_heads / context.mesh.size(Axis::tensor))),
      head_dim_(context.config.head_dim),
      gate_dim_(context.config.sparsity.gate_dim == 0 ? head_dim_
                                                      : context.config.sparsity.gate_dim),
      key_block_(context.config.sparsity.key_block),
      rotary_{.theta = context.config.rope_theta},  // positions are blocks: no text is too long
      keeps_means_(context.config.sparsity.head_gate) {
  const std::int64_t rows = context.config.heads * gate_dim_;
  // Features of the scale of their inputs: scores mean something from the first step on.
  const auto add = [&](const char* name, std::int64_t columns) {
    return add_gate_projection(context.name + name, rows, columns,
                               1.0 / std::sqrt(static_cast<double>(columns)), context);
  };
  query_ = add(".gate.query", head_dim_);
  key_ = add(".gate.key", 3 * head_dim_);
}

Variable BlockGate::features(Tape& tape, const Variable& rows, const Variable& weight,
                             std::int64_t input_heads, const Tensor& positions) const {
  return rope(tape, head_projection(tape, rows, weight, heads_, input_heads),
              tape.execution().upload(positions), gate_dim_, rotary_);
}

Variable BlockGate::query_features(Tape& tape, const Variable& queries,
                                   const BlockGrid& grid) const {
  return features(tape, queries, query_weight(), heads_,
                  block_positions(grid.batch, grid.groups(), grid.query_block,
                                  grid.first_position(0), key_block_));
}

Variable BlockGate::scores(Tape& tape, const Variable& queries, const Variable& pools,
                           const BlockGrid& grid) const {
  const Variable keys = features(tape, pools, key_weight(), kv_heads_,
                                 block_positions(grid.batch, grid.key_blocks(), 1));
  return gate_scores(tape, query_features(tape, queries, grid), keys, grid,
                     1.0 / std::sqrt(static_cast<double>(gate_dim_)));
}

std::unique_ptr<GateState> BlockGate::make_state(ExecutionContext& execution,
                                                 std::int64_t capacity) const {
  const DType dtype = query_weight().value().dtype();
  auto state = std::make_unique<GateState>();
  const std::int64_t blocks = (capacity + key_block_ - 1) / key_block_;
  const auto zeros = [&](std::int64_t rows, std::int64_t columns) {
    return execution.zeros({rows, columns}, dtype, MemoryUse::cache);
  };
  state->keys_MHE = zeros(blocks, heads_ * gate_dim_);
  state->pending_TGK = zeros(key_block_, kv_heads_ * head_dim_);
  state->group_query_HK = zeros(1, heads_ * head_dim_);
  if (keeps_means_) state->means_MGK = zeros(blocks, kv_heads_ * head_dim_);
  return state;
}

// Pools the blocks that the new tokens finish, and keeps the raw keys of the one they leave open.
void BlockGate::append_keys(Tape& tape, const AttentionInput& input, GateState& state) const {
  const Tensor fresh = input.k_raw_TGK.value();
  const std::int64_t waiting = state.length % key_block_, count = fresh.dim(0);
  ExecutionContext& execution = tape.execution();
  const Tensor rows = execution.empty({waiting + count, fresh.dim(1)}, fresh.dtype());
  execution.copy(state.pending_TGK.rows(0, waiting), rows.rows(0, waiting));
  execution.copy(fresh, rows.rows(waiting, waiting + count));
  const std::int64_t first = state.length / key_block_, finished = rows.dim(0) / key_block_;
  const std::int64_t used = finished * key_block_;
  if (finished > 0) {
    const Variable complete(rows.rows(0, used), input.k_raw_TGK.placements());
    const Variable pools = block_max_min_mean_keys(tape, complete, 1, key_block_, kv_heads_);
    const Variable keys =
        features(tape, pools, key_weight(), kv_heads_, block_positions(1, finished, 1, first));
    execution.copy(keys.value(), state.keys_MHE.rows(first, first + finished));
    if (keeps_means_)
      execution.copy(block_mean_keys(tape, complete, 1, key_block_).value(),
                     state.means_MGK.rows(first, first + finished));
  }
  execution.copy(rows.rows(used, rows.dim(0)), state.pending_TGK.rows(0, rows.dim(0) - used));
}

// Queries of the groups' first tokens: of the group that is already under way from the state.
Variable BlockGate::append_queries(Tape& tape, const AttentionInput& input, const BlockGrid& grid,
                                   GateState& state) const {
  const Tensor fresh = input.q_raw_THK.value();
  const std::int64_t groups = grid.groups(), begun = state.length % grid.query_block == 0 ? 0 : 1;
  ExecutionContext& execution = tape.execution();
  const Tensor queries = execution.empty({groups, fresh.dim(1)}, fresh.dtype());
  if (begun > 0) execution.copy(state.group_query_HK, queries.rows(0, 1));
  if (groups > begun) {
    const std::int64_t skipped = grid.first_position(begun) - state.length;
    const Variable first_tokens = group_queries(
        tape, Variable(fresh.rows(skipped, fresh.dim(0)), input.q_raw_THK.placements()), 1,
        grid.query_block);
    execution.copy(first_tokens.value(), queries.rows(begun, groups));
  }
  execution.copy(queries.rows(groups - 1, groups), state.group_query_HK);
  return Variable(queries, input.q_raw_THK.placements());
}

Variable BlockGate::append(Tape& tape, const AttentionInput& input, const BlockGrid& grid,
                           GateState& state) const {
  FILIGREE_CHECK_EQ(state.length, grid.query_offset, "tokens that the gate has seen");
  append_keys(tape, input, state);
  const Variable queries = append_queries(tape, input, grid, state);
  state.length += grid.query_length;
  return queries;
}

Variable BlockGate::scores_of(Tape& tape, const Variable& queries, const BlockGrid& grid,
                              const GateState& state) const {
  const Variable keys(state.keys_MHE.rows(0, grid.key_blocks()), queries.placements());
  return gate_scores(tape, query_features(tape, queries, grid), keys, grid,
                     1.0 / std::sqrt(static_cast<double>(gate_dim_)));
}

}  // namespace filigree
