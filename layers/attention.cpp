#include "layers/attention.hpp"

#include <cmath>

#include "layers/sparsity/registry.hpp"

namespace filigree {

Attention::Attention(const std::string& name, std::int64_t layer, const ModelConfig& config,
                     const Mesh& mesh, ParameterStore& store)
    : head_dim_(config.head_dim),
      rope_theta_(config.rope_theta),
      query_(ColumnParallelLinear::by_units(name + ".query", config.heads, config.head_dim,
                                            config.width, config.initial_deviation, mesh, store)),
      key_(ColumnParallelLinear::by_units(name + ".key", config.kv_heads, config.head_dim,
                                          config.width, config.initial_deviation, mesh, store)),
      value_(ColumnParallelLinear::by_units(name + ".value", config.kv_heads, config.head_dim,
                                            config.width, config.initial_deviation, mesh, store)),
      output_(name + ".output", config.width, config.heads * config.head_dim,
              config.initial_deviation / std::sqrt(2.0 * static_cast<double>(config.layers)), mesh,
              store),
      mechanism_(make_mechanism({name, layer, config, mesh, store})) {}

Attention::Heads Attention::project(Tape& tape, const Variable& x, const BatchInfo& batch) const {
  const auto turned = [&](const Variable& heads) {
    return rope(tape, heads, batch.positions_T, head_dim_, rope_theta_);
  };
  const Variable q = query_.forward(tape, x), k = key_.forward(tape, x);
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
  return output_.forward(tape, attended);
}

Variable Attention::decode(Tape& tape, const Variable& x, const BatchInfo& batch,
                           DecodeCache& cache, std::size_t layer) const {
  const Heads heads = project(tape, x, batch);
  const std::int64_t end = cache.length + batch.length;
  FILIGREE_CHECK(batch.batch == 1 && end <= cache.capacity, "decoding ", batch.length,
                 " tokens after ", cache.length, " with room for ", cache.capacity);
  DecodeCache::Layer& kept = cache.layers[layer];
  if (cache.length == 0) kept.state = mechanism_->make_state(tape.execution(), cache.capacity);
  kept.k_TGK.rows(cache.length, end).copy_from(heads.k.value());
  kept.v_TGK.rows(cache.length, end).copy_from(heads.v.value());
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
  return output_.forward(tape, attended);
}

}  // namespace filigree
