#include "launch/commands/generate.hpp"

#include <iostream>

#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/run_config.hpp"
#include "runtime/training/generation.hpp"
#include "runtime/training/run_model.hpp"

namespace filigree {
namespace {

struct GenerateArguments {
  std::string run, prompt, device = "cpu";
  std::int64_t step = 0, max_tokens = 200;
  SamplingOptions sampling;
  int threads = 0;
};

void add_options(Options& options, GenerateArguments& arguments) {
  options.add("from-run", &arguments.run,
              {.description = "run directory of the model", .unit = "RUN", .required = true});
  options.add("prompt", &arguments.prompt,
              {.description = "text to continue; empty: start a document", .unit = "TEXT"});
  options.add("max-tokens", &arguments.max_tokens,
              {.description = "most tokens to add", .unit = "tokens", .min = 1});
  options.add("temperature", &arguments.sampling.temperature,
              {.description = "below 1 prefers probable tokens more", .min = 0, .above_min = true});
  options.add("top-k", &arguments.sampling.top_k,
              {.description = "choose among the k most probable tokens; 0: all",
               .unit = "tokens",
               .min = 0});
  options.add("top-p", &arguments.sampling.top_p,
              {.description = "choose among the fewest tokens that are this probable together",
               .min = 0,
               .max = 1,
               .above_min = true});
  options.add("greedy", &arguments.sampling.greedy,
              {.description = "always take the most probable token"});
  options.add("seed", &arguments.sampling.seed, {.description = "same seed, same text", .min = 0});
  options.add("step", &arguments.step,
              {.description = "checkpoint to take; 0: the newest", .unit = "steps", .min = 0});
  options.add("threads", &arguments.threads,
              {.description = "OpenMP threads; 0: all cores", .min = 0});
  options.add("device", &arguments.device, device_option());
}

int run(const std::vector<std::string>& words) {
  GenerateArguments arguments;
  Options options(generate_command());
  add_options(options, arguments);
  if (!options.parse(words)) return exit_code::kOk;
  require_single_process("generate");
  const Mesh mesh(self_communicator("world"), {});
  ExecutionContext context =
      make_context(choose_device(arguments.device), threads_of_process(arguments.threads));
  RunModel model(load_run_config(arguments.run), mesh,
                 arguments.step > 0 ? arguments.step : newest_step(arguments.run, warn_on_console),
                 std::move(context));
  model.make_ready();

  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<std::int32_t> text{tokenizer.begin_of_document()};  // as documents begin in training
  const auto prompt = tokenizer.encode(arguments.prompt);
  text.insert(text.end(), prompt.begin(), prompt.end());
  const auto added = generate(model.model(), text, arguments.max_tokens,
                              tokenizer.end_of_document(), arguments.sampling, model.context());
  text.insert(text.end(), added.begin(), added.end());
  std::cout << tokenizer.decode(std::span(text).subspan(1)) << std::endl;
  return exit_code::kOk;
}

}  // namespace

Command generate_command() {
  return {"generate", "continue a prompt with a trained model",
          "filigree generate --from-run runs/lm_7m --prompt \"In the beginning\" --top-p 0.9", run};
}

}  // namespace filigree
