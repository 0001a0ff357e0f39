// `filigree bench attention`: what block-sparse attention saves against dense attention here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/command.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

Command bench_attention_command();

struct AttentionBenchSettings {
  DType dtype = DType::f32;
  std::string dense;  // the implementation that the dense times are of; empty: what dispatch picks
  std::int64_t heads = 2, kv_heads = 2, head_dim = 64;
  std::vector<std::int64_t> sequences = {1024, 4096};
  std::vector<double> densities = {100, 50, 25, 12.5, 10, 5};  // per cent of the causal pairs
  std::vector<std::int64_t> query_blocks = {1, 16, 64, 128}, key_blocks = {16, 64, 128};  // tokens
};

// Dense and sparse, forward or backward, on the same tensors.
struct AttentionTiming {
  double dense_seconds = 0, sparse_seconds = 0;
  double dense_gflops = 0, sparse_gflops = 0;  // executed: only pairs that are read
  double speed_up() const { return dense_seconds / sparse_seconds; }
  double efficiency() const { return sparse_gflops / dense_gflops; }  // per pair
};

struct AttentionMeasurement {
  std::int64_t sequence = 0, query_block = 0, key_block = 0;
  double asked_density = 0;  // per cent
  double density = 0;        // per cent, of pairs; forced blocks and whole blocks make it differ
  AttentionTiming forward, backward;
};

// Causal attention over lists of blocks drawn at random; first, previous and own blocks
// always. A density that reads the same pairs as the one before is left out. Throws UserError where
// the dense implementation is not there, or does not take these heads in this dtype.
std::vector<AttentionMeasurement> measure_attention(const AttentionBenchSettings& settings,
                                                    ExecutionContext& context);

}  // namespace filigree
