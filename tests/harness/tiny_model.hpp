// A small language model with random tokens, for tests over any mesh.
#pragma once

#include "layers/language_model.hpp"
#include "tests/harness/gradcheck.hpp"

namespace filigree::testing {

inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vocabulary = 13;  // no multiple of 2 or 4
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.feed_forward = 22;
  config.sequence = 9;
  config.initial_deviation = 0.3;  // large enough that every path matters
  return config.resolved(0);
}

struct TinyModel {
  TinyModel(const ModelConfig& config, const Mesh& mesh, DType dtype = DType::f64,
            std::uint64_t seed = 5)
      : model(config, mesh, store) {
    store.materialise(dtype, seed, execution);
    model.weights_changed(WeightChange::initialised, execution);
  }
  ExecutionContext execution;
  ParameterStore store;
  LanguageModel model;
};

inline BatchInfo sequences(std::int64_t batch, std::int64_t length) {
  BatchInfo info;
  info.batch = batch;
  info.length = length;
  info.positions_T = sequential_positions(batch, length);
  return info;
}

}  // namespace filigree::testing
