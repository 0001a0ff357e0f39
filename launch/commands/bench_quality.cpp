#include "launch/commands/bench_quality.hpp"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>

#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/process.hpp"
#include "launch/run_config.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/training/metrics.hpp"
#include "runtime/training/quality_report.hpp"

namespace filigree {
namespace {

struct QualityArguments {
  RunConfig config;
  std::string config_file, data, output, task = "text";
  std::string variants =
      "dense,sliding_window,deepspeed_fixed,adaptive:end_to_end,adaptive:distill,adaptive:both";
  std::string densities = "0.125,0.25";
  std::string match = "density";
  int seeds = 2;
  std::int64_t steps = 0;
};

// One training of the benchmark.
struct PlannedRun {
  QualityVariant variant;
  double density = 1.0;
  std::uint64_t seed = 0;
  std::int64_t steps = 0;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

double density_from(const std::string& text) {
  std::size_t used = 0;
  double value = 0.0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || !(value > 0.0 && value <= 1.0))
    throw UserError(str("--density: '", text,
                        "' is not a share above 0 and at most 1, such as 0.125; several are "
                        "separated by commas"));
  return value;
}

// Dense attention has no density to choose and runs once per seed.
std::vector<PlannedRun> plan(const QualityArguments& arguments) {
  std::vector<double> densities;
  for (const std::string& text : split(arguments.densities))
    densities.push_back(density_from(text));
  if (densities.empty()) throw UserError("--density is empty; give a share such as 0.25");
  std::vector<PlannedRun> runs;
  for (const std::string& name : split(arguments.variants)) {
    const QualityVariant variant = parse_quality_variant(name);
    const bool dense = variant.mechanism == "dense";
    for (const double density : dense ? std::vector<double>{1.0} : densities)
      for (int i = 0; i < arguments.seeds; ++i)
        runs.push_back({variant, density, arguments.config.train.seed + static_cast<unsigned>(i),
                        arguments.config.train.steps});
  }
  if (runs.empty()) throw UserError("--variants is empty; give at least one, such as dense");
  return runs;
}

// Where the benchmark is and how long it may still take, on standard error: on a terminal one line
// rewritten every second, otherwise a line every ten.
class BenchmarkProgress {
 public:
  explicit BenchmarkProgress(std::int64_t total_steps)
      : total_(total_steps), start_(Clock::now()), printed_(start_) {}
  ~BenchmarkProgress() {
    if (terminal_ && line_open_) std::cerr << '\n';
  }
  BenchmarkProgress(const BenchmarkProgress&) = delete;
  BenchmarkProgress& operator=(const BenchmarkProgress&) = delete;

  void step(const std::string& run, std::int64_t step, std::int64_t steps, double loss) {
    ++done_;
    const Clock::time_point now = Clock::now();
    if (now - printed_ < std::chrono::seconds(terminal_ ? 1 : 10)) return;
    printed_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double eta = seconds * static_cast<double>(total_ - done_) / static_cast<double>(done_);
    std::cerr << (terminal_ ? "\r\x1b[K" : "") << run << " | step " << step << '/' << steps
              << " | loss " << fixed(loss, 4) << " | eta " << readable_time(eta)
              << (terminal_ ? "" : "\n") << std::flush;
    line_open_ = true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1, line_open_ = false;
  std::int64_t total_, done_ = 0;
  Clock::time_point start_, printed_;
};

QualityTask task_of(const QualityArguments& arguments) {
  QualityTask task;
  if (arguments.task == "recall") return task;
  const std::string& data = arguments.config.data.path;
  if (data.empty())
    throw UserError(
        "--data is not given; it names a folder of token shards, made by filigree data tokenize");
  task.train = TokenDataset::open(data, "train");
  task.validation = TokenDataset::open(data, "validation");
  task.validation_tokens = arguments.config.train.validation_tokens;
  return task;
}

// Sparser variants train for longer, until they have executed as much as dense attention has.
void match_work(const RunConfig& config, const QualityTask& task, const ExecutionContext& where,
                std::vector<PlannedRun>& runs) {
  std::map<std::pair<std::string, double>, std::int64_t> steps;
  for (PlannedRun& run : runs) {
    const auto [found, is_new] = steps.try_emplace({run.variant.name, run.density}, 0);
    if (is_new) found->second = steps_of_equal_work(config, run.variant, run.density, task, where);
    run.steps = found->second;
  }
}

std::vector<QualityResult> measure_all(
    const RunConfig& config, const QualityTask& task, std::vector<PlannedRun> runs, bool equal_work,
    const std::function<void(const std::vector<QualityResult>&)>& keep) {
  for (const PlannedRun& run : runs) matched_model(config.model, run.variant, run.density);
  const ExecutionContext where =
      make_context(choose_device(config.train.device), threads_of_process(config.train.threads));
  if (equal_work) match_work(config, task, where, runs);
  std::int64_t total_steps = 0;
  for (const PlannedRun& run : runs) total_steps += run.steps;
  BenchmarkProgress progress(total_steps);
  std::vector<QualityResult> results;
  for (const PlannedRun& run : runs) {
    RunConfig one = with_steps(config, run.steps);
    one.train.seed = run.seed;
    const std::string name = str("run ", results.size() + 1, '/', runs.size(), ' ',
                                 run.variant.name, " density ", run.density, " seed ", run.seed);
    results.push_back(measure_quality(
        one, run.variant, run.density, task, where,
        [&](std::int64_t step, double loss) { progress.step(name, step, run.steps, loss); }));
    keep(results);
  }
  return results;
}

std::string report_name(const QualityArguments& arguments) {
  return arguments.task == "text" ? "quality" : "recall";
}

// After every run, so that what ended is kept when a later one fails or is stopped.
void write_report(const QualityArguments& arguments, const RunConfig& config,
                  const std::vector<QualityResult>& results) {
  if (arguments.output.empty()) return;
  const bool is_text = arguments.task == "text";
  nlohmann::ordered_json document = {{"task", arguments.task},
                                     {"match", arguments.match},
                                     {"config_hash", run_config_hash(config)},
                                     {"config", run_config_text(config)}};
  document.update(quality_table_json(results, is_text));
  const std::filesystem::path folder = arguments.output;
  const std::string name = report_name(arguments);
  write_file_atomically(folder / (name + ".md"), quality_table_markdown(results, is_text));
  write_file_atomically(folder / (name + ".json"), document.dump(2) + "\n");
  write_file_atomically(folder / (name + ".svg"), quality_plot_svg(results, is_text));
}

// Before hours of training, not after them.
void make_output_folder(const std::string& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error || ::access(folder.c_str(), W_OK) != 0)
    throw UserError(str("--output: cannot write to the folder '", folder, "'",
                        error ? ": " + error.message() : std::string()));
}

bool parse(const std::vector<std::string>& words, QualityArguments& arguments) {
  Options options(bench_quality_command());
  options.add("config", &arguments.config_file,
              {.description = "configuration file", .unit = "FILE"});
  options.add("task", &arguments.task,
              {.description = "what to train on: text, or associative recall, which is generated",
               .unit = "TASK",
               .allowed = {"text", "recall"}});
  options.add("data", &arguments.data,
              {.description = "folder of token shards; default: data.path", .unit = "DIR"});
  options.add("variants", &arguments.variants,
              {.description = "contestants; adaptive takes how its gate learns after a colon",
               .unit = "NAME,..."});
  options.add("density", &arguments.densities,
              {.description = "shares of the causal pairs that the sparse ones may read",
               .unit = "SHARE,..."});
  options.add(
      "match", &arguments.match,
      {.description = "what runs have in common: density is the same number of steps; flops "
                      "trains sparser ones for longer, until they have executed as much as "
                      "dense attention",
       .unit = "WHAT",
       .allowed = {"density", "flops"}});
  options.add("seeds", &arguments.seeds,
              {.description = "runs of each, from train.seed on", .min = 1, .max = 1000});
  options.add("steps", &arguments.steps,
              {.description = "training steps of every run, warm-ups and ramp in proportion; 0: "
                              "train.steps",
               .unit = "steps",
               .min = 0});
  options.add("output", &arguments.output,
              {.description = "folder that gets the tables and the plot", .unit = "DIR"});
  add_run_config(options, arguments.config);
  options.set_loader([&] {
    if (!arguments.config_file.empty()) options.load_file(arguments.config_file);
  });
  return options.parse(words);
}

int run(const std::vector<std::string>& words) {
  QualityArguments arguments;
  if (!parse(words, arguments)) return exit_code::kOk;
  require_single_process("bench quality");
  RunConfig& config = arguments.config;
  if (config.train.only != "all" || !config.train.init_from.empty())
    throw UserError(
        "bench quality trains whole models from their start: leave train.only = all and "
        "train.init_from empty; gates alone are trained by filigree train");
  if (!arguments.data.empty()) config.data.path = arguments.data;
  if (arguments.steps > 0) config = with_steps(config, arguments.steps);
  const std::vector<PlannedRun> runs = plan(arguments);
  const QualityTask task = task_of(arguments);
  if (!task.is_text())
    config.model.vocabulary = recall_shape(config.model.sequence, task.recall_values).vocabulary();
  config.model = config.model.resolved(task.is_text() ? task.train->vocabulary() : 0);
  make_output_folder(arguments.output);
  const auto keep = [&](const std::vector<QualityResult>& results) {
    write_report(arguments, config, results);
  };
  const auto results = measure_all(config, task, runs, arguments.match == "flops", keep);
  print_once(quality_table_markdown(results, task.is_text()));
  if (!arguments.output.empty())
    print_once(str("\nwritten to ",
                   (std::filesystem::path(arguments.output) / report_name(arguments)).string(),
                   ".md, .json and .svg\n"));
  return exit_code::kOk;
}

}  // namespace

Command bench_quality_command() {
  return {"bench quality", "train sparse attention variants side by side and compare their quality",
          "filigree bench quality --config configs/quality_quick.cfg --data runs/quickstart/shards "
          "--output runs/quality",
          run};
}

}  // namespace filigree
