#include "launch/commands/bench_scale.hpp"

#include <optional>

#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/process.hpp"
#include "launch/run_config.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/scale_benchmark.hpp"
#include "runtime/training/trainer.hpp"

namespace filigree {
namespace {

// Ranks that a layout leaves out wait for it to end, which no collective's timeout may cut short.
constexpr double kTimeoutSeconds = 24 * 3600.0;
constexpr std::int64_t kRandomVocabulary = 8192;

struct ScaleArguments {
  RunConfig config;
  std::string config_file, output;
  ScaleOptions options;
};

std::vector<ScaleResult> measure_all(const ScaleArguments& arguments,
                                     const RankEnvironment& environment) {
  Communicator& world = *environment.world;
  RunConfig config = arguments.config;
  agree(world, [&] {
    check_trained_part(config);
    const std::string& data = config.data.path;
    config.model =
        config.model.resolved(data.empty() ? (config.model.vocabulary > 0 ? 0 : kRandomVocabulary)
                                           : TokenDataset::open(data, "train").vocabulary());
  });
  ScaleOptions options = arguments.options;
  const Device device = choose_device(config.train.device, environment);
  const int threads = threads_per_rank(config.train.threads, environment);
  std::vector<ScaleResult> results;
  for (const MeshShape& layout : benchmark_layouts(config, world.size())) {
    const bool takes_part = world.rank() < layout.world();
    std::shared_ptr<Communicator> part = world.split(takes_part ? 0 : 1, world.rank(), "layout");
    if (takes_part) {
      ErrorContext frame(str("layout ", layout.name()));
      options.context = make_context(device, threads);
      const auto ranks = communicator_for(options.context, part, environment.timeout);
      results.push_back(measure_layout(config, layout, ranks, options));
      print_once(str("measured ", layout.name(), "\n"));
    }
    world.barrier();
  }
  return results;  // complete on rank 0
}

void write_tables(const ScaleArguments& arguments, const std::vector<ScaleResult>& results) {
  const std::string markdown = scale_table_markdown(results);
  print_once("\n" + markdown);
  if (arguments.output.empty()) return;
  const nlohmann::ordered_json document = {{"config_hash", run_config_hash(arguments.config)},
                                           {"steps", arguments.options.steps},
                                           {"batch", arguments.config.train.batch},
                                           {"sequence", arguments.config.model.sequence},
                                           {"dtype", arguments.config.train.dtype},
                                           {"layouts", scale_table_json(results)}};
  write_file_atomically(arguments.output + ".md", markdown);
  write_file_atomically(arguments.output + ".json", document.dump(2) + "\n");
  print_once(str("\nwritten to ", arguments.output, ".md and ", arguments.output, ".json\n"));
}

bool parse(const std::vector<std::string>& words, ScaleArguments& arguments) {
  Options options(bench_scale_command());
  options.add("config", &arguments.config_file,
              {.description = "configuration file; random tokens are used unless data.path is set",
               .unit = "FILE"});
  options.add("steps", &arguments.options.steps,
              {.description = "measured steps per layout", .unit = "steps", .min = 1});
  options.add("warmup", &arguments.options.warmup_steps,
              {.description = "steps before them", .unit = "steps", .min = 0});
  options.add("output", &arguments.output,
              {.description = "write the table to NAME.md and NAME.json", .unit = "NAME"});
  add_run_config(options, arguments.config);
  options.set_loader([&] {
    if (!arguments.config_file.empty()) options.load_file(arguments.config_file);
  });
  return options.parse(words);
}

int run(const std::vector<std::string>& words) {
  ScaleArguments arguments;
  if (!parse(words, arguments)) return exit_code::kOk;
  return run_in_world(kTimeoutSeconds, [&](const RankEnvironment& environment) {
    const auto results = measure_all(arguments, environment);
    agree_on_first(*environment.world, [&] { write_tables(arguments, results); });
    return exit_code::kOk;
  });
}

}  // namespace

Command bench_scale_command() {
  return {"bench scale", "measure training speed on every layout that the ranks allow",
          "mpirun -np 4 filigree bench scale --config configs/lm_7m.cfg --data.path \"\" --steps "
          "10 --output scale",
          run};
}

}  // namespace filigree
