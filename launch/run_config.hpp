// The configuration of a training run as options, files and text.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/options.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

struct RunArguments {
  RunConfig config;  // config.run is --run, --resume, or runs/<name of the configuration file>
  std::string config_file;         // --config; may be empty
  std::string resume;              // --resume: the run directory to go on in; empty: a new run
  std::vector<std::string> given;  // names of all options on the command line: "train.steps", "run"
};

// Registers every configuration field of `config`, in sections model, sparsity, data, optimizer,
// schedule, train, checkpoint and parallel.
void add_run_config(Options& options, RunConfig& config);

// Options of a command that trains: the configuration, --config FILE, --run DIR, --resume RUN, and
// what `add_more` registers. With --resume, the values of RUN/config.cfg come first and the command
// line may change them; the caller decides which changes it can follow, from `given`. nullopt when
// help was printed. Throws one UserError with every problem found.
std::optional<RunArguments> parse_run_arguments(const Command& command,
                                                const std::vector<std::string>& arguments,
                                                const std::function<void(Options&)>& add_more = {});

// The configuration in canonical form, as a run directory's config.cfg keeps it. Without the run
// directory, which may be moved.
std::string run_config_text(const RunConfig& config);
// 16 hexadecimal digits over run_config_text().
std::string run_config_hash(const RunConfig& config);

// Reads run_config_text() back. `source` names the text in errors. Throws UserError.
RunConfig run_config_from_text(const std::string& text, const std::string& source);
// From RUN/config.cfg, with config.run = run. Throws UserError when there is none.
RunConfig load_run_config(const std::string& run);

}  // namespace filigree
