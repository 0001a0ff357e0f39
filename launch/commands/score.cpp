#include "launch/commands/score.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numbers>

#include "conversion/safetensors.hpp"
#include "data_pipeline/utf8.hpp"
#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/run_config.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/output_file.hpp"
#include "runtime/training/generation.hpp"
#include "runtime/training/metrics.hpp"
#include "runtime/training/run_model.hpp"

namespace filigree {
namespace {

struct ScoreArguments {
  std::string run, input, output, logits, device = "cpu";
  std::int64_t step = 0;
  int threads = 0;
};

void add_options(Options& options, ScoreArguments& arguments) {
  options.add("from-run", &arguments.run,
              {.description = "run directory of the model", .unit = "RUN", .required = true});
  options.add("input", &arguments.input,
              {.description = "text, UTF-8", .unit = "FILE", .required = true});
  options.add(
      "output", &arguments.output,
      {.description =
           "gets one JSON object a line: position, id, token, log_probability (nats). The first "
           "token follows an end of document. Texts longer than the model's sequence go through "
           "windows that overlap by half, so that later tokens are conditioned on at least half a "
           "sequence",
       .unit = "FILE",
       .required = true});
  options.add("logits", &arguments.logits,
              {.description =
                   "also writes a safetensors file: logits [T, V] in f32 or f64 after each of the "
                   "first T tokens, at most the model's sequence, and the tokens' ids [T]; the "
                   "first of them is the end of document",
               .unit = "FILE"});
  options.add("step", &arguments.step,
              {.description = "checkpoint to take; 0: the newest", .unit = "steps", .min = 0});
  options.add("threads", &arguments.threads,
              {.description = "OpenMP threads; 0: all cores", .min = 0});
  options.add("device", &arguments.device, device_option());
}

std::string read_text(const std::string& file) {
  std::string text = read_file(file);
  if (text.empty()) throw UserError(str(file, " is empty; there is nothing to score"));
  const std::size_t valid = utf8_valid_prefix(text);
  if (valid == text.size()) return text;
  const auto line =
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(valid), '\n');
  throw UserError(
      str(file, ", line ", line, ": byte ", valid,
          " of the file begins no UTF-8 character; convert the file, for example with iconv"));
}

// Of the first window, which starts as a document does.
void write_logits(const std::string& file, RunModel& model, const std::vector<std::int32_t>& ids) {
  const auto length = std::min(std::ssize(ids) + 1, model.model().config().sequence);
  const Tensor tokens = Tensor::empty({length}, DType::i32);
  tokens.data<std::int32_t>()[0] = model.tokenizer().begin_of_document();
  std::copy_n(ids.begin(), length - 1, tokens.data<std::int32_t>() + 1);
  BatchInfo batch;
  batch.batch = 1;
  batch.length = length;
  batch.positions_T = sequential_positions(1, length);
  ExecutionContext& context = model.context();
  const Tensor logits = context.download(model.model().all_logits(context, tokens, batch));
  OutputFile output(file);
  SafetensorsWriter writer(output.path(), {{"logits", logits.dtype(), logits.shape()},
                                           {"ids", tokens.dtype(), tokens.shape()}});
  writer.write(logits);
  writer.write(tokens);
  writer.close();
  output.publish();
}

std::string score_lines(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                        const std::vector<double>& scores) {
  std::string lines;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const nlohmann::ordered_json line = {{"position", i},
                                         {"id", ids[i]},
                                         {"token", tokenizer.piece(ids[i])},
                                         {"log_probability", scores[i]}};
    lines += line.dump() + '\n';
  }
  return lines;
}

int run(const std::vector<std::string>& words) {
  ScoreArguments arguments;
  Options options(score_command());
  add_options(options, arguments);
  if (!options.parse(words)) return exit_code::kOk;
  require_single_process("score");
  const std::string text = read_text(arguments.input);
  const Mesh mesh(self_communicator("world"), {});
  ExecutionContext context =
      make_context(choose_device(arguments.device), threads_of_process(arguments.threads));
  RunModel model(load_run_config(arguments.run), mesh,
                 arguments.step > 0 ? arguments.step : newest_step(arguments.run, warn_on_console),
                 std::move(context));
  model.make_ready();

  const auto ids = model.tokenizer().encode(text);
  const auto scores =
      score_tokens(model.model(), ids, model.tokenizer().begin_of_document(), model.context());
  if (!arguments.logits.empty()) write_logits(arguments.logits, model, ids);
  write_file_atomically(arguments.output, score_lines(model.tokenizer(), ids, scores));

  double sum = 0.0;
  for (const double score : scores) sum -= score;
  std::cout << str(ids.size(), " tokens in ", arguments.output, " | loss ",
                   fixed(sum / scores.size(), 4), " | perplexity ",
                   fixed(std::exp(sum / scores.size()), 2), " | bits per byte ",
                   fixed(sum / std::numbers::ln2 / text.size(), 4), "\n");
  return exit_code::kOk;
}

}  // namespace

Command score_command() {
  return {"score", "write the log-probability of every token of a text",
          "filigree score --from-run runs/lm_7m --input text.txt --output scores.jsonl", run};
}

}  // namespace filigree
