// The tables and the plot of the quality benchmark.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/training/quality_benchmark.hpp"

namespace filigree {

// A variant at one density: the means over its seeds, in the order of their first appearance.
struct QualityMean {
  QualityVariant variant;
  double target_density = 1;
  int seeds = 0;
  double density = 0, loss = 0, last_quarter_loss = 0, far_loss = 0, accuracy = 0;
  double flops_per_token = 0, tokens_per_second = 0;
  double gate_share = 0, teacher_share = 0, total_flops = 0;
};
std::vector<QualityMean> means_over_seeds(const std::vector<QualityResult>& results);

// One row per mean and one per run. Perplexities are exp(mean loss).
std::string quality_table_markdown(const std::vector<QualityResult>& results, bool is_text);
nlohmann::ordered_json quality_table_json(const std::vector<QualityResult>& results, bool is_text);

// Validation loss (text) or accuracy (recall) over executed FLOPs per token: a dot per run and the
// mean of every variant with its name.
std::string quality_plot_svg(const std::vector<QualityResult>& results, bool is_text);

}  // namespace filigree
