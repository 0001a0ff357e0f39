// What sparse attention costs in quality: a variant trained from the same initialisation on the
// same data as the others, and scored where long memory shows.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data_pipeline/token_dataset.hpp"
#include "layers/language_model.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/quality_variants.hpp"
#include "runtime/training/recall_task.hpp"

namespace filigree {

// What the variants are trained on and scored with.
struct QualityTask {
  // Text: both splits. Empty: the recall task.
  std::optional<TokenDataset> train, validation;
  std::int64_t validation_tokens = 0;  // whole windows of about so many; 0: the whole split
  std::int64_t recall_values = 16;     // chance is one in so many
  std::int64_t recall_samples = 64;

  bool is_text() const { return train.has_value(); }
};

// A target repeats something far back when the last time that the same token followed the same
// token in this window is more than so many tokens ago.
inline constexpr std::int64_t kFarTokens = 128;

// For each target of a window whether it repeats something more than `distance` tokens back and not
// nearer: the pair (tokens[i], targets[i]) occurred at some j with i - j > distance, and at none
// with i - j <= distance.
std::vector<bool> far_repeats(std::span<const std::int32_t> tokens,
                              std::span<const std::int32_t> targets, std::int64_t distance);

// Mean losses in nats. NaN where there was no such target.
struct QualityScore {
  double loss = 0;               // all targets; of the recall task the queries
  double last_quarter_loss = 0;  // text: the last quarter of every window
  double far_loss = 0;           // text: targets that repeat something far back
  double accuracy = 0;           // recall task
  std::int64_t targets = 0, far_targets = 0;
};

// Over whole windows of the model's sequence, `rows` at once. Throws UserError when the split has
// none.
QualityScore score_text(const LanguageModel& model, const TokenDataset& dataset, std::int64_t rows,
                        std::int64_t max_tokens, ExecutionContext& context);

struct QualityResult {
  QualityVariant variant;
  double target_density = 1;  // asked for
  std::uint64_t seed = 0;
  double density = 1;  // pairs read / causal pairs over all layers and heads, measured
  QualityScore score;
  double train_loss = 0;  // of the last step, per target
  // Training steps once warm-up and ramp of the density are over: executed floating-point
  // operations of all kernels per token, the same with no block skipped, and speed.
  double flops_per_token = 0, dense_flops_per_token = 0, tokens_per_second = 0;
  // Time in the kernels that choose blocks, and in those that teach the choice, over the time in
  // attention.
  double gate_share = 0, teacher_share = 0;
  std::int64_t steps = 0;  // of the whole training
  double total_flops = 0;  // executed by it
};

// Called after every step with its number and loss.
using QualityProgress = std::function<void(std::int64_t step, double loss)>;

// Trains config.model as `variant` for config.train.steps, with config.train.seed, and scores it.
// `config` has a resolved model; `where` is the context to compute in. One process.
QualityResult measure_quality(const RunConfig& config, const QualityVariant& variant,
                              double density, const QualityTask& task,
                              const ExecutionContext& where, const QualityProgress& progress = {});

// Steps in which the variant's training executes as many operations as dense attention's does in
// config.train.steps, warm-up and ramp in proportion: from the work of one step each.
std::int64_t steps_of_equal_work(const RunConfig& config, const QualityVariant& variant,
                                 double density, const QualityTask& task,
                                 const ExecutionContext& where);

// The run for another number of steps, with its warm-ups, ramp and decay in proportion.
RunConfig with_steps(const RunConfig& config, std::int64_t steps);

}  // namespace filigree
