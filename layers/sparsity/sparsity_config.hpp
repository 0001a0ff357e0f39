// What the sparse attention mechanisms can be told. Every mechanism reads the part that concerns
// it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace filigree {

struct SparsityConfig {
  std::int64_t key_block = 64;    // tokens per key block: 16 to 128
  std::int64_t query_group = 64;  // queries that share a choice: 1 to 128
  double density = 0.25;  // visited / allowed query-key pairs aimed at, forced blocks included
  std::string selection = "density";  // density | top_k | threshold
  std::int64_t top_k = 0;             // blocks per group, for selection top_k
  double threshold = 0.01;    // share of a group's softmax over blocks, for selection threshold
  std::int64_t window = 0;    // tokens before a query that it always reads
  std::int64_t sinks = 0;     // tokens at the start of a document that are always read
  double dense_heads = 0.25;  // share of heads that read everything, spread evenly
  // auto | distill | end_to_end | both | none: how the gate learns. auto: in every way that the
  // mechanism can.
  std::string learn = "auto";
  bool head_gate = false;         // heads that are not dense may be skipped, group by group
  double head_threshold = 0.3;    // least sigmoid with which a head is worth its work
  std::int64_t gate_dim = 0;      // width of the gate's projections; 0: the head's
  double distill_weight = 1.0;    // of the distillation loss beside the language model's
  double distill_share = 0.25;    // share of the query groups compared with the dense map in a step
  std::int64_t warmup_steps = 0;  // steps with dense attention at the start
  std::int64_t ramp_steps = 0;    // steps over which the density then falls from 1 to its target

  // Window, in blocks of key_block tokens: of a fixed layout, 0 for what its authors chose; before
  // a group's own blocks for adaptive, 0 for one.
  std::int64_t local_blocks = 0;
  // Fixed layouts, in blocks.
  std::int64_t global_blocks = 1;  // read by every later block
  std::int64_t random_blocks = 1;  // per row of deepspeed_bigbird
  std::int64_t stride_blocks = 8;  // of s2_strided
  std::int64_t head_patterns =
      1;  // of deepspeed_fixed: heads take turns in which blocks are global

  // BlockGrid::local_blocks of adaptive.
  std::int64_t adaptive_local_blocks() const { return local_blocks == 0 ? 1 : local_blocks; }

  // Of a mechanism that can.
  bool distills() const { return learn == "distill" || learn == "both" || learn == "auto"; }
  bool learns_end_to_end() const {
    return learn == "end_to_end" || learn == "both" || learn == "auto";
  }

  // What is wrong for a model of this mechanism and training sequence, one line each.
  std::vector<std::string> problems(const std::string& mechanism, std::int64_t sequence) const;
};

}  // namespace filigree
