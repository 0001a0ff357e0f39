// What the sparse attention mechanisms can be told. Every mechanism reads the part that concerns
// it.
#pragma once

#include <cstdint>
#include <string>

namespace filigree {

struct SparsityConfig {
  std::int64_t key_block = 64;    // tokens per key block: 16 to 128
  std::int64_t query_group = 64;  // queries that share a choice: 1 to 128
  double density = 0.25;  // visited / allowed query-key pairs aimed at, forced blocks included
  std::string selection = "density";  // density | top_k | threshold
  std::int64_t top_k = 0;             // blocks per group, for selection top_k
  double threshold = 0.01;        // share of a group's softmax over blocks, for selection threshold
  std::int64_t window = 0;        // tokens before a query that it always reads
  std::int64_t sinks = 0;         // tokens at the start of a document that are always read
  double dense_heads = 0.25;      // share of heads that read everything, spread evenly
  std::string learn = "both";     // distill | end_to_end | both | none: how the gate learns
  std::int64_t gate_dim = 0;      // width of the gate's projections; 0: the head's
  double distill_weight = 1.0;    // of the distillation loss beside the language model's
  double distill_share = 0.25;    // share of the query groups compared with the dense map in a step
  std::int64_t warmup_steps = 0;  // steps with dense attention at the start
  std::int64_t ramp_steps = 0;    // steps over which the density then falls from 1 to its target
};

}  // namespace filigree
