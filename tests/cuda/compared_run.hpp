// A run of ten steps that GPUs and the CPU are compared on.
#pragma once

#include <cmath>
#include <string>

#include "tests/layout/layout_equivalence.hpp"

namespace filigree::testing {

inline RunConfig compared_run(const std::string& mechanism, const std::string& dtype) {
  RunConfig config = layout_config();
  config.model.head_dim = 16;
  config.model.width = 32;
  config.model.feed_forward = 40;
  config.model.sequence = 72;  // no multiple of a block
  config.model.qk_norm = true;
  config.model.output_gate = true;
  config.model.mechanism = mechanism;
  config.model.sparsity.key_block = config.model.sparsity.query_group = 16;
  config.model.sparsity.density = 0.6;
  config.model.sparsity.warmup_steps = 2;
  config.model.sparsity.ramp_steps = 3;
  config.train.dtype = dtype;
  config.train.steps = 10;
  config.train.batch = 3;
  config.train.micro_batch = 2;
  return config;
}

// Heads of the width that tensor cores take in large tiles, in bf16, in steps of which some are
// replayed.
inline RunConfig wide_run(const std::string& mechanism) {
  RunConfig config = compared_run(mechanism, "bf16");
  config.model.layers = 1;
  config.model.width = 128;
  config.model.head_dim = 64;
  config.model.sequence = 136;
  config.model.sparsity.query_group = 64;
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
  config.train.steps = 4;
  return config;
}

// Euclidean.
inline double distance(const Tensor& a, const Tensor& b) {
  const auto x = a.span<float>(), y = b.span<float>();
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum);
}

}  // namespace filigree::testing
