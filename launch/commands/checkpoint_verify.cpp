#include "launch/commands/checkpoint_verify.hpp"

#include "checkpoint/checkpoint.hpp"
#include "launch/commands/checkpoint_paths.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

int run(const std::vector<std::string>& arguments) {
  std::string path;
  Options options(checkpoint_verify_command());
  options.add_positional("checkpoint", &path,
                         {.description = "a checkpoint's folder, or a run: all of its checkpoints",
                          .unit = "CHECKPOINT",
                          .required = true});
  if (!options.parse(arguments)) return exit_code::kOk;
  std::string problems;
  for (const auto& folder : all_checkpoints(path)) {
    try {
      const CheckpointReader reader(folder);
      ProgressLine line;
      reader.verify([&](std::int64_t done, std::int64_t total) {
        line.update(str("reading ", folder.filename().string()), done, total);
      });
      print_once(str(folder.filename().string(), ": intact, ", bytes_text(reader.bytes()), " in ",
                     reader.names().size(), " tensors\n"));
    } catch (const UserError& error) {
      problems += str(problems.empty() ? "" : "\n", error.what());
    }
  }
  if (!problems.empty()) throw UserError(problems);
  return exit_code::kOk;
}

}  // namespace

Command checkpoint_verify_command() {
  return {"checkpoint verify", "read every byte of a checkpoint against its hashes",
          "filigree checkpoint verify runs/lm_7m/checkpoints/step_00001000", run};
}

}  // namespace filigree
