#include "launch/commands/bench_checkpoint.hpp"

#include "launch/commands/world.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "launch/run_config.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/checkpoint_benchmark.hpp"
#include "runtime/training/trainer.hpp"

namespace filigree {
namespace {

// What a model without one gets, since no tokenizer is asked.
constexpr std::int64_t kVocabulary = 8192;

struct CheckpointArguments {
  RunConfig config;
  std::string config_file, folder = ".", json_file;
  std::int64_t repeats = 5;
  double step = 0.25;
};

bool parse(const std::vector<std::string>& words, CheckpointArguments& arguments) {
  Options options(bench_checkpoint_command());
  options.add(
      "config", &arguments.config_file,
      {.description = "configuration whose training state is saved and loaded", .unit = "FILE"});
  options.add("folder", &arguments.folder,
              {.description = "where to write, on the disk to measure; room for seven states is "
                              "needed and left free again",
               .unit = "DIR",
               .required = true});
  options.add("repeats", &arguments.repeats,
              {.description = "measurements of each kind, in turns", .min = 1, .max = 1000});
  options.add("step", &arguments.step,
              {.description = "what a training step takes beside a save in the background; it is "
                              "slept through",
               .unit = "seconds",
               .min = 0});
  options.add("json", &arguments.json_file,
              {.description = "also write the measurements to this file", .unit = "FILE"});
  add_run_config(options, arguments.config);
  options.set_loader([&] {
    if (!arguments.config_file.empty()) options.load_file(arguments.config_file);
  });
  return options.parse(words);
}

int measure(const CheckpointArguments& arguments, const RankEnvironment& environment) {
  const std::shared_ptr<Communicator>& world = environment.world;
  RunConfig config;
  agree(*world, [&] {
    config = resolve(arguments.config, world->size(),
                     arguments.config.model.vocabulary > 0 ? 0 : kVocabulary);
    check_trained_part(config);
  });
  const CheckpointBenchmark result =
      measure_checkpoints(config, world,
                          {.folder = arguments.folder,
                           .repeats = arguments.repeats,
                           .step_seconds = arguments.step,
                           .threads = threads_per_rank(config.train.threads, environment)});
  print_once(checkpoint_benchmark_text(result));
  if (arguments.json_file.empty()) return exit_code::kOk;
  agree_on_first(
      *world, [&] { write_file_atomically(arguments.json_file, to_json(result).dump(2) + "\n"); });
  return exit_code::kOk;
}

int run(const std::vector<std::string>& words) {
  CheckpointArguments arguments;
  if (!parse(words, arguments)) return exit_code::kOk;
  return run_in_world(
      arguments.config.train.collective_timeout,
      [&](const RankEnvironment& environment) { return measure(arguments, environment); });
}

}  // namespace

Command bench_checkpoint_command() {
  return {"bench checkpoint",
          "time saving and loading beside plain writes and reads, and the pause of training",
          "mpirun -np 2 filigree bench checkpoint --config configs/lm_7m.cfg --folder runs --json "
          "checkpoint.json",
          run};
}

}  // namespace filigree
