// A model with its optimizer on one rank, and the optimizer step.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data_pipeline/batch_loader.hpp"
#include "layers/language_model.hpp"
#include "layers/parameter.hpp"
#include "parallel/gradient_reducer.hpp"
#include "parallel/mesh.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/optimizer.hpp"
#include "runtime/training/schedules.hpp"
#include "runtime/training/step_replay.hpp"

namespace filigree {

// Where this rank's micro-batches come from.
class MicroBatchSource {
 public:
  virtual ~MicroBatchSource() = default;
  virtual std::int64_t micro_batches() const = 0;  // per step, at least 1
  virtual TokenBatch next() = 0;
};

struct StepResult {
  double loss = 0;  // sum over all tokens of the step / their number
  double learning_rate = 0;
  double gradient_norm = 0;             // before clipping; NaN when not finite
  bool skipped = false;                 // loss or gradient was not finite: nothing was updated
  std::vector<LayerStatistics> layers;  // over all ranks and micro-steps; empty unless measured
};

class TrainingEngine {
 public:
  // `config` is resolved and `mesh` outlives the engine. Declares and initialises the parameters.
  // Collective over the tensor axis, unless start is `later`: then parameters_initialised() or
  // parameters_loaded() must follow.
  enum class Start { now, later };
  TrainingEngine(const RunConfig& config, const Mesh& mesh, ExecutionContext context,
                 Start start = Start::now);
  TrainingEngine(const TrainingEngine&) = delete;
  TrainingEngine& operator=(const TrainingEngine&) = delete;

  // Optimizer step `step` (1 for the first). Every rank gets the same result, to the bit.
  // `measure`, the same on every rank, asks the attention layers what they did; it changes neither
  // loss nor gradients, but its kernels take time and count as work. Every train.check_lists steps
  // the tensor ranks compare which blocks they chose; where they differ, every rank throws the same
  // AgreedError and nothing is updated. `before_update` is called when parameters and moments in
  // the host's memory are about to change. Collective. On an accelerator everything is enqueued, or
  // launched as it was captured from an earlier step, before this waits once for the result; steps
  // that measure or compare are never captured, and wait where they must.
  StepResult step(MicroBatchSource& source, std::int64_t step, bool measure = false,
                  const std::function<void()>& before_update = {});

  // To be called once parameters have been loaded from a checkpoint, or stay as initialised.
  // Collective.
  void parameters_loaded();
  void parameters_initialised();

  const LanguageModel& model() const { return model_; }
  const ParameterStore& parameters() const { return store_; }
  AdamWOptimizer& optimizer() { return optimizer_; }
  const AdamWOptimizer& optimizer() const { return optimizer_; }
  ExecutionContext& context() { return context_; }
  const Mesh& mesh() const { return mesh_; }
  // Present where steps are captured: on GPUs, unless train.cuda_graph is false.
  const std::optional<StepReplay>& replay() const { return replay_; }

 private:
  // What a step is asked for beside its update.
  struct Observation {
    bool measures = false, compares = false;
    std::vector<LayerStatistics> layers = {};
    std::string disagreement = {};  // the first that this rank found
  };
  void take_batches(MicroBatchSource& source);
  void enqueue_step(const StepNumber& step, Observation& observation,
                    const std::function<void()>& before_update);
  void accumulate_gradients(const StepNumber& step, Observation& observation);
  Variable micro_step_loss(Tape& tape, std::size_t micro, BatchInfo info) const;
  void check_agreement(const StepNumber& step, const Observation& observation) const;

  RunConfig config_;
  const Mesh& mesh_;
  ExecutionContext context_;
  Schedule schedule_;
  ParameterStore store_;
  LanguageModel model_;
  AdamWOptimizer optimizer_;
  GradientReducer reducer_;
  StepTotals totals_;
  std::vector<TokenBatch> batches_;           // of the step at hand
  std::map<std::int64_t, Tensor> positions_;  // of micro-batches, by their rows
  std::optional<StepReplay> replay_;
};

// The rows of every step's batch that this rank feeds. Throws UserError when some rank would have
// none.
ShardRange batch_share(std::int64_t batch, const Mesh& mesh);
// train.micro_batch, or the whole share where it is 0.
std::int64_t micro_batch_rows(const TrainConfig& config, const ShardRange& share);

// Seconds this rank has spent inside collectives so far.
double communication_seconds(const Mesh& mesh);

}  // namespace filigree
