#include "launch/commands/checkpoint_diff.hpp"

#include <cmath>
#include <sstream>

#include <nlohmann/json.hpp>

#include "checkpoint/difference.hpp"
#include "launch/commands/checkpoint_paths.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"
#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

struct DiffArguments {
  std::string first, second;
  double tolerance = 0.0;
  bool json = false;
};

// Within the tolerance, or equal in all bits where that is 0.
bool close(const TensorDifference& difference, double tolerance) {
  return difference.same() ||
         (difference.form.empty() && tolerance > 0.0 && difference.largest <= tolerance);
}

std::string line(const TensorDifference& difference) {
  if (!difference.form.empty()) return str(difference.name, ": ", difference.form, "\n");
  return str(difference.name, ": ", difference.differing, " of ", difference.values,
             " values differ, by at most ", scientific(difference.largest, 3), " (relative ",
             scientific(difference.largest_relative, 3), ")\n");
}

nlohmann::ordered_json as_json(const TensorDifference& difference) {
  nlohmann::ordered_json json{{"name", difference.name}, {"same", difference.same()}};
  if (!difference.form.empty()) {
    json["form"] = difference.form;
  } else if (!difference.same()) {
    json.update({{"values", difference.values},
                 {"differing", difference.differing},
                 {"largest", difference.largest},
                 {"largest_relative", difference.largest_relative}});
  }
  return json;
}

bool parse(const std::vector<std::string>& words, DiffArguments& arguments) {
  Options options(checkpoint_diff_command());
  options.add_positional("first", &arguments.first,
                         {.description = "a checkpoint's folder, or a run: its newest",
                          .unit = "CHECKPOINT",
                          .required = true});
  options.add_positional(
      "second", &arguments.second,
      {.description = "the one to compare it with", .unit = "CHECKPOINT", .required = true});
  options.add(
      "tolerance", &arguments.tolerance,
      {.description = "values that differ by no more count as equal; 0: all bits count", .min = 0});
  options.add("json", &arguments.json,
              {.description = "print one JSON list of all tensors instead of those that differ"});
  return options.parse(words);
}

int run(const std::vector<std::string>& words) {
  DiffArguments arguments;
  if (!parse(words, arguments)) return exit_code::kOk;
  const CheckpointReader first(one_checkpoint(arguments.first));
  const CheckpointReader second(one_checkpoint(arguments.second));
  std::vector<TensorDifference> differences;
  {
    ProgressLine progress;
    differences = compare_checkpoints(first, second, [&](std::int64_t done, std::int64_t total) {
      progress.update("comparing", done, total);
    });
  }
  std::size_t apart = 0;
  std::string text;
  auto list = nlohmann::ordered_json::array();
  for (const TensorDifference& difference : differences) {
    list.push_back(as_json(difference));
    if (close(difference, arguments.tolerance)) continue;
    ++apart;
    text += line(difference);
  }
  text += apart == 0
              ? str("all ", differences.size(), " tensors ",
                    arguments.tolerance > 0 ? str("differ by at most ", arguments.tolerance, "\n")
                                            : str("are the same\n"))
              : str(apart, " of ", differences.size(), " tensors differ\n");
  print_once(arguments.json ? list.dump(2) + "\n" : text);
  return apart == 0 ? exit_code::kOk : exit_code::kDifferent;
}

}  // namespace

Command checkpoint_diff_command() {
  return {"checkpoint diff",
          "compare two checkpoints tensor by tensor, on whatever layouts they were saved; exit "
          "code 1 where they differ",
          "filigree checkpoint diff runs/a/checkpoints/step_00001000 runs/b", run};
}

}  // namespace filigree
