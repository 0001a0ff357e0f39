// What attention did in one layer: for metrics, and to see whether a gate learns.
#pragma once

#include <limits>
#include <vector>

#include "parallel/mesh.hpp"

namespace filigree {

// Sums over heads, sequences and groups, so that ranks and micro-steps add up.
struct LayerStatistics {
  double pairs = 0, allowed_pairs = 0;   // query-key pairs read, and left by causality
  double blocks = 0, forced_blocks = 0;  // listed blocks, and those that had to be listed
  double caught = 0, caught_rows = 0;    // share of the oracle's mass in the list, over sparse rows
  // The same for choices that learn nothing, of as many blocks (baseline_choice.hpp).
  double caught_random = 0, caught_mean_pooled = 0;
  double entropy = 0, entropy_rows = 0;  // of dense attention over the log of its keys, sampled
  double divergence = 0, divergence_rows = 0;  // KL of the gate to the oracle, over sparse rows
  double heads_skipped = 0, head_choices = 0;  // of the head gate, per head and group
  double largest_logit = -std::numeric_limits<double>::infinity();  // sampled

  void add(const LayerStatistics& other);

  // NaN where there was nothing to measure.
  double density() const { return pairs / allowed_pairs; }
  double forced_share() const { return forced_blocks / blocks; }
  double recall() const { return caught / caught_rows; }
  double recall_random() const { return caught_random / caught_rows; }
  double recall_mean_pooled() const { return caught_mean_pooled / caught_rows; }
  double mean_entropy() const { return entropy / entropy_rows; }
  double skipped_share() const { return heads_skipped / head_choices; }
  double mean_divergence() const { return divergence / divergence_rows; }
};

// The sums over all data and tensor ranks, the same bits everywhere. Collective; every rank passes
// as many layers.
std::vector<LayerStatistics> reduce_over_ranks(const std::vector<LayerStatistics>& layers,
                                               const Mesh& mesh);

}  // namespace filigree
