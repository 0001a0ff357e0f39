#include "layers/sparsity/head_gate.hpp"

#include "layers/sparsity/gate.hpp"

namespace filigree {

// Small weights: at first every head counts for about a half, and none is skipped.
HeadGate::HeadGate(const MechanismContext& context)
    : store_(&context.store),
      heads_(context.config.heads / context.mesh.size(Axis::tensor)),
      head_dim_(context.config.head_dim),
      learns_(context.config.sparsity.learn != "none") {
  const ModelConfig& model = context.config;
  const auto add = [&](const char* name) {
    return add_gate_projection(context.name + name, model.heads, head_dim_, model.initial_deviation,
                               context);
  };
  query_ = add(".gate.head_query");
  key_ = add(".gate.head_key");
}

Variable HeadGate::scores(Tape& tape, const Variable& queries, const Variable& means,
                          const BlockGrid& grid) const {
  const Variable keys = finished_key_mean(tape, means, grid);
  const std::int64_t kv_heads = keys.shape()[1] / head_dim_;
  const Variable s = head_gate(tape, head_projection(tape, queries, query_weight(), heads_, heads_),
                               head_projection(tape, keys, key_weight(), heads_, kv_heads));
  return learns_ ? s : Variable(s.value(), s.placements());
}

}  // namespace filigree
