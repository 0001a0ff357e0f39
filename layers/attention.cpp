#include "layers/attention.hpp"

#include <cmath>

#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

LinearOptions options(const ModelConfig& config) {
  return {.deviation = config.initial_deviation,
          .reparametrised = config.reparametrises_attention()};
}

LinearOptions qkv_options(const ModelConfig& config) {
  LinearOptions result = options(config);
  result.bias = config.qkv_bias;
  return result;
}

ColumnParallelLinear heads_of(const std::string& name, std::int64_t heads,
                              const LinearOptions& options, const ModelConfig& config,
                              const Mesh& mesh, ParameterStore& store) {
  return ColumnParallelLinear::by_units(name, heads, config.head_dim, config.width, options, mesh,
                                        store);
}

}  // namespace

Attention::Attention(const std::string& name, std::int64_t layer, const ModelConfig& config,
                     const Mesh& mesh, ParameterStore& store)
    : head_dim_(config.head_dim),
      rotary_(config.rotary()),
      query_(heads_of(name + ".query", config.heads, qkv_options(config), config, mesh, store)),
      key_(heads_of(name + ".key", config.kv_heads, qkv_options(config), config, mesh, store)),
      value_(heads_of(name + ".value", config.kv_heads, qkv_options(config), config, mesh, store)),
      output_(name + ".output", config.width, config.heads * config.head_dim,
              output_options(config, config.reparametrises_attention()), mesh, store),
      mechanism_(make_mechanism({name, layer, config, mesh, store})) {
  if (config.qk_norm) {
    query_norm_.emplace(name + ".query_norm", config.head_dim, config.norm_eps, mesh, store);
    key_norm_.emplace(name + ".key_norm", config.head_dim, config.norm_eps, mesh, store);
  }
  if (config.output_gate)
    gate_.emplace(
        heads_of(name + ".output_gate", config.heads, options(config), config, mesh, store));
}

void Attention::weights_changed(WeightChange change, ExecutionContext& execution) {
  for (ColumnParallelLinear* linear : {&query_, &key_, &value_})
    linear->weights_changed(change, execution);
  output_.weights_changed(change, execution);
  if (gate_) gate_->weights_changed(change, execution);
}

Attention::Heads Attention::project(Tape& tape, const Variable& x, const BatchInfo& batch) const {
  const auto turned = [&](const Variable& heads) {
    return rope(tape, heads, batch.positions_T, head_dim_, rotary_);
  };
  Variable q = query_.forward(tape, x), k = key_.forward(tape, x);
  if (query_norm_) {
    q = query_norm_->forward(tape, q);
    k = key_norm_->forward(tape, k);
  }
  return {.q_raw = q, .k_raw = k, .q = turned(q), .k = turned(k), .v = value_.forward(tape, x)};
}

AttentionShape Attention::shape(const BatchInfo& batch) const {
  return {.batch = batch.batch,
          .query_length = batch.length,
          .key_length = batch.length,
          .query_heads = query_.local_outputs() / head_dim_,
          .kv_heads = key_.local_outputs() / head_dim_,
          .head_dim = head_dim_,
          .query_offset = 0,
          .causal = true,
          .scale = 1.0 / std::sqrt(static_cast<double>(head_dim_))};
}

Variable Attention::finish(Tape& tape, const Variable& attended, const Variable& x) const {
  return output_.forward(tape,
                         gate_ ? sigmoid_gate(tape, attended, gate_->forward(tape, x)) : attended);
}

Variable Attention::forward(Tape& tape, const Variable& x, const BatchInfo& batch) const {
  const Heads heads = project(tape, x, batch);
  const Variable attended = mechanism_->attend(tape, {.x_TD = x,
                                                      .q_THK = heads.q,
                                                      .k_TGK = heads.k,
                                                      .v_TGK = heads.v,
                                                      .q_raw_THK = heads.q_raw,
                                                      .k_raw_TGK = heads.k_raw,
                                                      .shape = shape(batch),
                                                      .batch = batch});
  return finish(tape, attended, x);
}

Variable Attention::decode(Tape& tape, const Variable& x, const BatchInfo& batch,
                           DecodeCache& cache, std::size_t layer) const {
  const Heads heads = project(tape, x, batch);
  const std::int64_t end = cache.length + batch.length;
  FILIGREE_CHECK(batch.batch == 1 && end <= cache.capacity, "decoding ", batch.length,
                 " tokens after ", cache.length, " with room for ", cache.capacity);
  DecodeCache::Layer& kept = cache.layers[layer];
  if (cache.length == 0) kept.state = mechanism_->make_state(tape.execution(), cache.capacity);
  tape.execution().copy(heads.k.value(), kept.k_TGK.rows(cache.length, end));
  tape.execution().copy(heads.v.value(), kept.v_TGK.rows(cache.length, end));
  AttentionShape all = shape(batch);
  all.key_length = end;
  all.query_offset = cache.length;
  const Variable attended =
      mechanism_->attend(tape, {.x_TD = x,
                                .q_THK = heads.q,
                                .k_TGK = Variable(kept.k_TGK.rows(0, end), heads.k.placements()),
                                .v_TGK = Variable(kept.v_TGK.rows(0, end), heads.v.placements()),
                                .q_raw_THK = heads.q_raw,
                                .k_raw_TGK = heads.k_raw,
                                .shape = all,
                                .batch = batch,
                                .state = kept.state.get()});
  return finish(tape, attended, x);
}

}  // namespace filigree
