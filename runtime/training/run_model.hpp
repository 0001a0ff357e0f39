// A trained model, taken from the folder of its run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "data_pipeline/tokenizer.hpp"
#include "layers/language_model.hpp"
#include "parallel/mesh.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

// The step of RunDirectory::verified_checkpoint.
std::int64_t newest_step(const std::string& run,
                         const std::function<void(const std::string&)>& warn);

class RunModel {
 public:
  // Parameters of the checkpoint of `step` in config.run, on any mesh whatever layout they were
  // saved on. `config` is the run's own, resolved. Throws UserError when there is no such
  // checkpoint, it does not fit, or RUN/config.cfg describes another model than was saved. Not
  // collective.
  RunModel(const RunConfig& config, const Mesh& mesh, std::int64_t step, ExecutionContext context);
  RunModel(const RunModel&) = delete;
  RunModel& operator=(const RunModel&) = delete;

  // Brings what layers derive from their weights up to date, before the model is used. Collective.
  void make_ready() { model_.weights_changed(WeightChange::loaded, context_); }

  const LanguageModel& model() const { return model_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }  // the run's
  ExecutionContext& context() { return context_; }
  std::int64_t step() const { return step_; }

 private:
  ExecutionContext context_;
  ParameterStore store_;
  LanguageModel model_;
  Tokenizer tokenizer_;
  std::int64_t step_ = 0;
};

}  // namespace filigree
