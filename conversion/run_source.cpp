#include "conversion/run_source.hpp"

#include "runtime/training/run_directory.hpp"
#include "runtime/training/training_checkpoint.hpp"

namespace filigree {
namespace {

CheckpointReader verified(const RunDirectory& run, std::int64_t step,
                          const std::function<void(const std::string&)>& warn) {
  if (step == 0) return CheckpointReader(run.verified_checkpoint(warn));
  CheckpointReader reader(run.checkpoint_of(step));
  reader.verify();
  return reader;
}

}  // namespace

RunSource open_run(const RunConfig& config, std::int64_t step,
                   const std::function<void(const std::string&)>& warn) {
  const RunDirectory run = RunDirectory::open(config.run);
  RunSource source{config, verified(run, step, warn), Tokenizer::load(run.tokenizer_file())};
  check_same_model(source.reader.info(), run.config_file());
  return source;
}

}  // namespace filigree
