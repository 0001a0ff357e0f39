#include "runtime/training/run_model.hpp"

#include "runtime/training/run_directory.hpp"
#include "runtime/training/training_checkpoint.hpp"

namespace filigree {

std::int64_t newest_step(const std::string& run,
                         const std::function<void(const std::string&)>& warn) {
  return CheckpointReader(RunDirectory::open(run).verified_checkpoint(warn)).info().step;
}

RunModel::RunModel(const RunConfig& config, const Mesh& mesh, std::int64_t step,
                   ExecutionContext context)
    : context_(std::move(context)),
      model_(config.model, mesh, store_),
      tokenizer_(Tokenizer::load(RunDirectory::open(config.run).tokenizer_file())) {
  const RunDirectory run = RunDirectory::open(config.run);
  const CheckpointReader reader(run.checkpoint_of(step));
  check_same_model(reader.info(), run.config_file());
  const TrainingState state = training_state(reader.info(), reader.folder());
  if (state.tokenizer_hash != tokenizer_.hash())
    throw UserError(str("run ", config.run, " was trained with tokenizer ", state.tokenizer_hash,
                        "; its tokenizer.model is ", tokenizer_.hash(),
                        ": put the right one back"));
  store_.materialise(dtype_from_name(config.train.dtype), config.train.seed, context_);
  load_parameters(reader, store_, context_);
  step_ = state.step;
}

}  // namespace filigree
