#include "launch/commands/checkpoint_prune.hpp"

#include <set>

#include "checkpoint/folders.hpp"
#include "checkpoint/retention.hpp"
#include "launch/commands/checkpoint_paths.hpp"
#include "launch/commands/world.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

int run(const std::vector<std::string>& arguments) {
  std::string path;
  RetentionRule rule;
  bool dry_run = false;
  Options options(checkpoint_prune_command());
  options.add_positional("run", &path,
                         {.description = "run directory, or a folder of checkpoints; not of a run "
                                         "that is training",
                          .unit = "RUN",
                          .required = true});
  options.add("keep", &rule.keep,
              {.description = "newest checkpoints that stay; the last two that are intact stay in "
                              "any case",
               .min = 1});
  options.add("keep-every", &rule.every,
              {.description = "checkpoints of steps that are a multiple of it stay; 0: none for "
                              "that",
               .unit = "steps",
               .min = 0});
  options.add("dry-run", &dry_run, {.description = "say what would go, and remove nothing"});
  if (!options.parse(arguments)) return exit_code::kOk;
  const auto folder = checkpoints_folder(path);
  const auto lock = dry_run ? nullptr : lock_checkpoints(folder, warn_on_console);
  std::set<std::int64_t> intact;
  const auto superseded = superseded_steps(folder, rule, std::nullopt, intact);
  std::string text;
  const auto name = [&](const std::string& gone) {
    text += str(dry_run ? "would remove " : "removed ", gone, "\n");
  };
  for (const std::int64_t step : superseded) name(step_folder_name(step));
  for (const auto& leftover : leftovers_in(folder)) name(leftover.filename().string());
  if (text.empty()) text = "nothing to remove\n";
  std::string problems;
  if (!dry_run)
    for (const std::string& warning : remove_checkpoints(folder, superseded, posix_file_system()))
      problems += str(problems.empty() ? "" : "\n", warning);
  if (!problems.empty()) throw UserError(problems);
  print_once(text);
  return exit_code::kOk;
}

}  // namespace

Command checkpoint_prune_command() {
  return {"checkpoint prune",
          "remove old checkpoints of a run, and what interrupted saves have left",
          "filigree checkpoint prune runs/lm_7m --keep 2 --keep-every 1000 --dry-run", run};
}

}  // namespace filigree
