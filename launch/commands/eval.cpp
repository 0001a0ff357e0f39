#include "launch/commands/eval.hpp"

#include <optional>

#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/process.hpp"
#include "launch/run_config.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/evaluation.hpp"
#include "runtime/training/metrics.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/run_model.hpp"
#include "runtime/training/trainer.hpp"

namespace filigree {
namespace {

struct EvalArguments {
  std::string run, data, split = "validation", device = "cpu";
  std::int64_t step = 0, max_tokens = 0, rows = 8;
  int tensor = 1;
  int threads = 0;
  bool json = false;
};

struct EvalReport {
  EvaluationResult model, unigram;
  std::int64_t step = 0;
};

void add_options(Options& options, EvalArguments& arguments) {
  options.add("from-run", &arguments.run,
              {.description = "run directory of the model", .unit = "RUN", .required = true});
  options.add("data", &arguments.data,
              {.description = "folder of token shards; default: what the run was trained on",
               .unit = "DIR"});
  options.add("split", &arguments.split, {.description = "split to evaluate on", .unit = "NAME"});
  options.add("step", &arguments.step,
              {.description = "checkpoint to take; 0: the newest", .unit = "steps", .min = 0});
  options.add(
      "max-tokens", &arguments.max_tokens,
      {.description = "stop after about so many; 0: the whole split", .unit = "tokens", .min = 0});
  options.add(
      "rows", &arguments.rows,
      {.description = "windows evaluated at once on a rank", .unit = "sequences", .min = 1});
  options.add("tensor", &arguments.tensor,
              {.description = "ranks that split every layer", .unit = "ranks", .min = 1});
  options.add("threads", &arguments.threads,
              {.description = "OpenMP threads per rank; 0: the host's cores shared out", .min = 0});
  options.add("device", &arguments.device, device_option());
  options.add("json", &arguments.json,
              {.description = "print one JSON object instead of sentences"});
}

void check_tokenizer(const TokenDataset& dataset, const std::string& run) {
  const Tokenizer tokenizer = Tokenizer::load(RunDirectory::open(run).tokenizer_file());
  if (dataset.tokenizer_hash() != tokenizer.hash())
    throw UserError(str("the shards in ", dataset.folder(), " were made with tokenizer ",
                        dataset.tokenizer_hash(), ", run ", run, " uses ", tokenizer.hash(),
                        "; tokenize the text with --tokenizer ", run, "/tokenizer.model"));
}

EvalReport evaluate_run(const EvalArguments& arguments, const RankEnvironment& environment) {
  Communicator& world = *environment.world;
  RunConfig config;
  std::optional<TokenDataset> train, split;
  agree(world, [&] {
    config = load_run_config(arguments.run);
    config.parallel.tensor = arguments.tensor;
    const std::string data = arguments.data.empty() ? config.data.path : arguments.data;
    train = TokenDataset::open(data, "train");
    split = TokenDataset::open(data, arguments.split);
    check_tokenizer(*split, arguments.run);
    config = resolve(config, world.size(), split->vocabulary());
  });
  ExecutionContext context = make_context(choose_device(arguments.device, environment),
                                          threads_per_rank(arguments.threads, environment));
  const Mesh mesh(communicator_for(context, environment.world, environment.timeout),
                  config.parallel);
  std::int64_t step = arguments.step;
  agree_on_first_at_length(world, [&] {
    if (step == 0) step = newest_step(arguments.run, warn_on_console);
  });
  step = std::stoll(broadcast_text(world, std::to_string(step), 0));
  std::optional<RunModel> model;
  agree(world, [&] { model.emplace(config, mesh, step, std::move(context)); });
  model->make_ready();
  EvaluationOptions options;
  options.length = config.model.sequence;
  options.rows = arguments.rows;
  options.max_tokens = arguments.max_tokens;
  EvalReport report;
  report.step = model->step();
  report.model = evaluate(model->model(), *split, mesh, options, model->context());
  report.unigram = evaluate_unigram(*train, *split, world, options);
  return report;
}

std::string as_text(const EvalReport& report, const EvalArguments& arguments) {
  return str(arguments.run, " after step ", report.step, " on split ", arguments.split, ", ",
             report.model.tokens, " tokens\n  loss           ", fixed(report.model.loss, 4),
             " nats per token\n  perplexity     ", fixed(report.model.perplexity, 2),
             " (unigram model of the same text: ", fixed(report.unigram.perplexity, 2),
             ")\n  bits per byte  ", fixed(report.model.bits_per_byte, 4),
             " (unigram: ", fixed(report.unigram.bits_per_byte, 4), ")\n");
}

std::string as_json(const EvalReport& report, const EvalArguments& arguments) {
  const nlohmann::ordered_json object = {{"run", arguments.run},
                                         {"step", report.step},
                                         {"split", arguments.split},
                                         {"tokens", report.model.tokens},
                                         {"loss", report.model.loss},
                                         {"perplexity", report.model.perplexity},
                                         {"bits_per_byte", report.model.bits_per_byte},
                                         {"unigram_perplexity", report.unigram.perplexity},
                                         {"unigram_bits_per_byte", report.unigram.bits_per_byte}};
  return object.dump() + "\n";
}

int run(const std::vector<std::string>& words) {
  EvalArguments arguments;
  Options options(eval_command());
  add_options(options, arguments);
  if (!options.parse(words)) return exit_code::kOk;
  const double timeout = load_run_config(arguments.run).train.collective_timeout;
  return run_in_world(timeout, [&](const RankEnvironment& environment) {
    const EvalReport report = evaluate_run(arguments, environment);
    print_once(arguments.json ? as_json(report, arguments) : as_text(report, arguments));
    return exit_code::kOk;
  });
}

}  // namespace

Command eval_command() {
  return {"eval", "print loss, perplexity and bits per byte of a trained model on a split",
          "mpirun -np 2 filigree eval --from-run runs/lm_7m --split validation", run};
}

}  // namespace filigree
