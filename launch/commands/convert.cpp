#include "launch/commands/convert.hpp"

#include <charconv>
#include <iostream>

#include "conversion/export_gguf.hpp"
#include "conversion/export_hugging_face.hpp"
#include "conversion/import_hugging_face.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/commands/world.hpp"
#include "launch/run_config.hpp"

namespace filigree {
namespace {

struct ConvertArguments {
  std::string run, to, from, input, output, dtype = "f32", shard_size = "5GB", tokenizer;
  std::int64_t step = 0, sequence = 0;
  bool gates_separate = false, verify = false, overwrite = false;
};

void add_options(Options& options, ConvertArguments& arguments) {
  options.add("from-run", &arguments.run,
              {.description = "run directory of the model to export", .unit = "RUN"});
  options.add("to", &arguments.to,
              {.description = "what to export: huggingface, a folder that transformers loads; "
                              "gguf, a file for llama.cpp (dense models)",
               .allowed = {"", "huggingface", "gguf"}});
  options.add("from", &arguments.from,
              {.description = "what to import: huggingface, a folder of a Llama, Mistral, Qwen2 or "
                              "Qwen3 model",
               .allowed = {"", "huggingface"}});
  options.add("input", &arguments.input, {.description = "folder to import", .unit = "DIR"});
  options.add("output", &arguments.output,
              {.description = "folder or file to write; an import makes a run directory",
               .unit = "PATH",
               .required = true});
  options.add("dtype", &arguments.dtype,
              {.description = "of the exported weights", .allowed = {"f32", "bf16", "f16"}});
  options.add("step", &arguments.step,
              {.description = "checkpoint to export; 0: the newest", .unit = "steps", .min = 0});
  options.add("max-shard-size", &arguments.shard_size,
              {.description = "most bytes of one safetensors file: a number with KB, MB or GB",
               .unit = "SIZE"});
  options.add(
      "gates-separate", &arguments.gates_separate,
      {.description = "export a dense model, and the gates as gates.safetensors beside it"});
  options.add("verify", &arguments.verify,
              {.description = "read again what was written and compare every tensor"});
  options.add("overwrite", &arguments.overwrite,
              {.description = "replace what an earlier conversion has written"});
  options.add("tokenizer", &arguments.tokenizer,
              {.description = "for an import, a SentencePiece model or a byte-level "
                              "tokenizer.json; default: the folder's tokenizer.model, or else its "
                              "tokenizer.json",
               .unit = "FILE"});
  options.add("sequence", &arguments.sequence,
              {.description = "longest sequence of an imported run; 0: the model's",
               .unit = "tokens",
               .min = 0});
}

std::int64_t bytes_of(const std::string& size) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), number);
  const std::string unit(end, size.data() + size.size());
  const std::int64_t factor = unit.empty() || unit == "B" ? 1
                              : unit == "KB"              ? 1'000
                              : unit == "MB"              ? 1'000'000
                              : unit == "GB"              ? 1'000'000'000
                                                          : 0;
  if (error != std::errc() || number <= 0 || factor == 0 ||
      number > (std::int64_t{1} << 62) / factor)
    throw UserError(str("--max-shard-size ", size,
                        ": must be a positive number of bytes, or one with KB, MB or GB: 5GB"));
  return number * factor;
}

// Which way, and that no option of the other one is given.
void check_direction(const Options& options, const ConvertArguments& arguments) {
  const bool imports = !arguments.from.empty();
  if (imports == !arguments.run.empty())
    throw UserError(
        "give either --from-run RUN with --to huggingface or gguf, or --from huggingface with "
        "--input DIR");
  const auto refuse = [&](std::initializer_list<const char*> names, const char* with) {
    for (const char* name : names)
      if (options.given(name)) throw UserError(str("--", name, " does not go with ", with));
  };
  if (imports) {
    refuse({"to", "dtype", "step", "max-shard-size", "gates-separate", "verify"}, "--from");
    if (arguments.input.empty()) throw UserError("--from huggingface needs --input DIR");
    return;
  }
  refuse({"input", "tokenizer", "sequence"}, "--from-run");
  if (arguments.to.empty()) throw UserError("--from-run needs --to huggingface or --to gguf");
  if (arguments.to == "gguf") refuse({"max-shard-size", "gates-separate"}, "--to gguf");
}

std::string verified_text(const ConvertArguments& arguments) {
  return arguments.verify ? "\n  verified: read again, every tensor as it was to be, bit for bit"
                          : "";
}

ConversionProgress shown_on(ProgressLine& line, const char* phase) {
  return [&line, phase](std::int64_t done, std::int64_t total) { line.update(phase, done, total); };
}

void import_model(const ConvertArguments& arguments) {
  ProgressLine line;
  const HuggingFaceImport result =
      import_hugging_face(arguments.input, arguments.output,
                          {.tokenizer = arguments.tokenizer,
                           .sequence = arguments.sequence,
                           .overwrite = arguments.overwrite,
                           .progress = shown_on(line, "reading weights")},
                          [](const RunConfig& config) -> ConfigText {
                            const std::string text = run_config_text(config);
                            // Names what is out of the range of its option.
                            run_config_from_text(text, "configuration of the imported run");
                            return {text, run_config_hash(config)};
                          });
  std::cout << str(arguments.output, ": ", result.tensors, " tensors, ",
                   result.config.model.parameters(), " parameters\n",
                   result.prefix_dropped
                       ? "  its tokenizer put a space before every text; here a text begins as it "
                         "is: begin it with a space for the ids of the original\n"
                       : "",
                   "  tokenize: filigree data tokenize --tokenizer ", arguments.output,
                   "/tokenizer.model --input TEXTS --output SHARDS\n",
                   "  train on: filigree train --config ", arguments.output,
                   "/config.cfg --train.init_from ", arguments.output,
                   " --data.path SHARDS --run NEW\n");
}

void export_model(const ConvertArguments& arguments) {
  const RunSource run = open_run(load_run_config(arguments.run), arguments.step, warn_on_console);
  const DType dtype = dtype_from_name(arguments.dtype);
  ProgressLine line;
  const ConversionProgress progress = shown_on(line, "writing weights");
  if (arguments.to == "gguf") {
    const GgufExport result = export_gguf(run, arguments.output,
                                          {.dtype = dtype,
                                           .verify = arguments.verify,
                                           .overwrite = arguments.overwrite,
                                           .progress = progress});
    std::cout << str(arguments.output, ": GGUF of architecture ", result.architecture, ", ",
                     result.tensors, " tensors, ", result.bytes, " bytes", verified_text(arguments),
                     "\n");
    return;
  }
  const HuggingFaceExport result =
      export_hugging_face(run, arguments.output,
                          {.dtype = dtype,
                           .most_shard_bytes = bytes_of(arguments.shard_size),
                           .gates_separate = arguments.gates_separate,
                           .verify = arguments.verify,
                           .overwrite = arguments.overwrite,
                           .progress = progress});
  const bool bundled = result.architecture == Architecture::filigree;
  std::cout << str(arguments.output, ": model_type ", name_of(result.architecture), ", ",
                   result.tensors, " tensors in ", result.files,
                   result.files == 1 ? " file, " : " files, ", result.bytes, " bytes",
                   result.gate_tensors > 0
                       ? str(", ", result.gate_tensors,
                             " gate tensors in gates.safetensors (FiligreeForCausalLM.with_gates)")
                       : "",
                   verified_text(arguments), "\n  load: AutoModelForCausalLM.from_pretrained(\"",
                   arguments.output, bundled ? "\", trust_remote_code=True)\n" : "\")\n");
}

int run(const std::vector<std::string>& words) {
  ConvertArguments arguments;
  Options options(convert_command());
  add_options(options, arguments);
  if (!options.parse(words)) return exit_code::kOk;
  require_single_process("convert");
  check_direction(options, arguments);
  if (arguments.from.empty())
    export_model(arguments);
  else
    import_model(arguments);
  return exit_code::kOk;
}

}  // namespace

Command convert_command() {
  return {"convert", "convert a model to or from Hugging Face, or to GGUF",
          "filigree convert --from-run runs/lm_7m --to huggingface --output lm_7m_hf --verify",
          run};
}

}  // namespace filigree
