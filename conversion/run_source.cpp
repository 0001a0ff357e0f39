#include "conversion/run_source.hpp"

#include "checkpoint/folders.hpp"
#include "runtime/training/run_directory.hpp"

namespace filigree {
namespace {

CheckpointReader verified(const RunDirectory& run, std::int64_t step) {
  if (step == 0) return CheckpointReader(run.verified_checkpoint());
  CheckpointReader reader(run.checkpoints() / step_folder_name(step));
  reader.verify();
  return reader;
}

}  // namespace

RunSource open_run(const RunConfig& config, std::int64_t step) {
  const RunDirectory run = RunDirectory::open(config.run);
  return {config, verified(run, step), Tokenizer::load(run.tokenizer_file())};
}

}  // namespace filigree
