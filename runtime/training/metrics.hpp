// What a run reports about itself: metrics.jsonl and the console line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "layers/sparsity/layer_statistics.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

// How long the step took and what it cost on this rank; varies from run to run.
struct StepTiming {
  double seconds = 0;                // wall time of the step
  double communication_seconds = 0;  // inside collectives
  double data_wait_seconds = 0;      // waiting for the reader
  // Inside kernels of attention, of choosing its blocks, and of what the choice is taught with.
  double attention_seconds = 0, gate_seconds = 0, teacher_seconds = 0;
  double tokens_per_second = 0;  // of the whole job
  // Of the whole job: what the model's formula costs, recomputed work not counted, times the share
  // of the dense work that was executed.
  double model_flops_per_second = 0;
  std::int64_t peak_bytes = 0;  // most memory handed out at once so far
  // Taken from the system by now, and in how many pieces: neither grows after the first steps.
  std::int64_t reserved_bytes = 0, system_allocations = 0;
};

// One optimizer step. Everything but `timing` is a function of configuration, data and layout only.
struct StepReport {
  std::int64_t step = 0;  // 1 for the first
  double loss = 0;        // mean over the step's tokens, nats
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  std::int64_t tokens = 0;   // consumed by the run so far
  bool skipped = false;      // loss or gradient was not finite: nothing was updated
  // Floating-point operations of all kernels on all ranks, and what they would have been with no
  // block skipped.
  std::int64_t executed_flops = 0, dense_flops = 0;
  std::int64_t gate_flops = 0;          // of the executed ones: choosing blocks and teaching that
  std::vector<LayerStatistics> layers;  // empty where they were not measured
  StepTiming timing;
};

// Loss over the validation split after a step.
struct ValidationReport {
  std::int64_t step = 0;
  double loss = 0;  // nats per token
  double perplexity = 0;
  double bits_per_byte = 0;  // of the text
  std::int64_t tokens = 0;   // scored
  double seconds = 0;
  std::vector<LayerStatistics> layers = {};  // empty where they were not measured
};

// A checkpoint that was saved, or was not.
struct CheckpointReport {
  std::int64_t step = 0;  // of the checkpoint; its line may come after those of later steps
  std::int64_t bytes = 0;
  std::string failure;  // "": it was saved
  double pause_seconds = 0, total_seconds = 0;
};

inline constexpr int kMetricsSchema = 1;

// One JSON object per line, `kind` says which: "run" (the first line: schema, configuration hash),
// "step", "validation", "checkpoint". Values that are not finite are null. Every line is handed to
// the system when written. One that it does not take, because the disk is full, is lost and not the
// run: `warn` is told once, and again when lines are written again.
class MetricsFile {
 public:
  using Warn = std::function<void(const std::string&)>;
  // Starts the file, which must not exist. Throws UserError when it cannot be written.
  static MetricsFile create(const std::filesystem::path& file, const std::string& config_hash,
                            Warn warn, FileSystem& system = posix_file_system());
  // Continues after `step`: lines of later steps and a torn last line, left by a run that died
  // after its last checkpoint, are removed.
  static MetricsFile resume(const std::filesystem::path& file, std::int64_t step, Warn warn,
                            FileSystem& system = posix_file_system());

  void write(const StepReport& report);
  void write(const ValidationReport& report);
  void write(const CheckpointReport& report);

 private:
  MetricsFile(PosixFile file, Warn warn);
  void append(const nlohmann::ordered_json& line);  // throws UserError
  void write_line(const nlohmann::ordered_json& line);

  PosixFile file_;
  Warn warn_;
  std::int64_t end_ = 0;   // of the last whole line
  std::int64_t lost_ = 0;  // lines since then
};

nlohmann::ordered_json to_json(const StepReport& report);
nlohmann::ordered_json to_json(const ValidationReport& report);
nlohmann::ordered_json to_json(const CheckpointReport& report);

// "step 120/1000 | loss 3.4512 | lr 2.97e-03 | grad 0.812 | 45.3k tok/s | 2.0 TFLOP/s | 312.0 MiB |
// eta ...
std::string console_line(const StepReport& report, std::int64_t steps, double eta_seconds);

// " | density 0.251 | recall 0.912 (mean-pooled 0.834, random 0.512) | kl 0.0831" where layers were
// measured, else "": means over all layers; recall and kl only where there is a gate to have them.
// In brackets what choices that learn nothing catch with as many blocks.
std::string sparsity_text(const std::vector<LayerStatistics>& layers);

// Adds layer i of `more` to layer i of `sums`; there are as many.
void add_layers(std::vector<LayerStatistics>& sums, const std::vector<LayerStatistics>& more);

std::string readable_bytes(double bytes);   // "312.0 MiB"
std::string readable_count(double value);   // "45.3k"; steps of 1000
std::string readable_time(double seconds);  // "1:03:12"
std::string fixed(double value, int digits);
std::string scientific(double value, int digits);

}  // namespace filigree
