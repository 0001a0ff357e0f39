#include "launch/commands/data_tokenize.hpp"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "data_pipeline/tokenize.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// The command line's values that TokenizeOptions holds in another form.
struct Flags {
  std::string output, tokenizer, invalid_utf8 = "refuse";
  std::vector<std::string> extensions;
  std::int64_t sample_mib = 64, shard_mib = 256;
};

void register_inputs(Options& options, Flags& flags, TokenizeOptions& values) {
  options.add("input", &values.inputs,
              {.description = "file or folder of text, - for standard input; may be repeated",
               .unit = "PATH",
               .required = true});
  options.add(
      "extensions", &flags.extensions,
      {.description = "take files of a folder that end so; may be repeated; without it .txt, "
                      ".rst, .md and .jsonl",
       .unit = ".EXT"});
  options.add("text-field", &values.import.text_field,
              {.description = "field of .jsonl objects that holds the text", .unit = "NAME"});
  options.add("document-separator", &values.import.document_separator,
              {.description = "in text files, a line that begins so begins a new document",
               .unit = "TEXT"});
  options.add("document-lines", &values.import.document_lines,
              {.description = "in text files, a new document begins after so many lines; 0: never",
               .unit = "lines",
               .min = 0});
  options.add("document-paragraphs", &values.import.document_paragraphs,
              {.description = "in text files, a new document begins after so many paragraphs (text "
                              "between blank lines); 0: never",
               .unit = "paragraphs",
               .min = 0});
  options.add("invalid-utf8", &flags.invalid_utf8,
              {.description = "what to do with bytes that are not UTF-8: stop, or put U+FFFD",
               .allowed = {"refuse", "replace"}});
}

void register_outputs(Options& options, Flags& flags, TokenizeOptions& values) {
  options.add("output", &flags.output,
              {.description = "folder to make", .unit = "DIR", .required = true});
  options.add("overwrite", &values.overwrite,
              {.description = "replace the output when it is a folder of shards"});
  options.add(
      "vocabulary", &values.training.vocabulary,
      {.description = "size of the tokenizer to train", .unit = "ids", .min = 260, .max = 1 << 20});
  options.add(
      "tokenizer", &flags.tokenizer,
      {.description = "SentencePiece model or byte-level tokenizer.json to use instead of training "
                      "one",
       .unit = "FILE"});
  options.add("sample", &flags.sample_mib,
              {.description = "most text to train the tokenizer on, taken evenly",
               .unit = "MiB",
               .min = 1,
               .max = 1 << 14});
  options.add(
      "character-coverage", &values.training.character_coverage,
      {.description = "share of the text whose characters get ids of their own; the rest is "
                      "spelled in bytes",
       .min = 0.9,
       .max = 1});
  options.add("validation", &values.validation,
              {.description = "share of the documents to hold out; 0: none", .min = 0, .max = 0.9});
  options.add("seed", &values.seed, {.description = "of the choice of documents and sample"});
  options.add("shard-size", &flags.shard_mib,
              {.description = "size of a shard file", .unit = "MiB", .min = 1, .max = 1 << 16});
}

void check(const Options& options, const ImportOptions& import) {
  const int divided = (import.document_separator.empty() ? 0 : 1) +
                      (import.document_lines > 0 ? 1 : 0) +
                      (import.document_paragraphs > 0 ? 1 : 0);
  if (divided > 1) {
    throw UserError(
        "options --document-separator, --document-lines, --document-paragraphs: at most "
        "one of them can say where documents begin");
  }
  if (options.given("tokenizer") && options.given("vocabulary")) {
    throw UserError(
        "options --tokenizer and --vocabulary: a given tokenizer has its vocabulary; leave "
        "one of them out");
  }
  if (launcher_size() > 1) {
    throw UserError("data tokenize runs as one process; start it without mpirun");
  }
}

std::string percent(std::int64_t part, std::int64_t whole) {
  return str(std::fixed, std::setprecision(2),
             whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0,
             " %");
}

std::string speed_text(std::int64_t bytes, double seconds) {
  return bytes_text(
             static_cast<std::int64_t>(static_cast<double>(bytes) / std::max(seconds, 1e-3))) +
         "/s";
}

std::string summary(const TokenizeReport& report, const std::string& output) {
  std::ostringstream out;
  out << "Read       " << count_text(report.documents) << " documents in "
      << count_text(report.files) << (report.files == 1 ? " file, " : " files, ")
      << bytes_text(report.text_bytes) << ", in " << duration_text(report.read_seconds);
  if (report.empty_documents > 0) {
    out << "; " << count_text(report.empty_documents) << " empty ones left out";
  }
  if (report.replaced_bytes > 0) {
    out << "; " << count_text(report.replaced_bytes) << " invalid bytes replaced by U+FFFD";
  }
  out << "\nTokenizer  " << count_text(report.vocabulary) << " ids, ";
  if (report.sampled_bytes > 0) {
    out << "trained on " << bytes_text(report.sampled_bytes) << " in "
        << duration_text(report.train_seconds);
  } else {
    out << "given";
  }
  out << "\nTokens     " << count_text(report.tokens) << " in "
      << duration_text(report.encode_seconds) << " ("
      << speed_text(report.text_bytes, report.encode_seconds) << "), " << std::fixed
      << std::setprecision(2)
      << static_cast<double>(report.text_bytes) / static_cast<double>(report.tokens)
      << " bytes/token, unknown " << percent(report.unknown_tokens, report.tokens)
      << ", single bytes " << percent(report.byte_tokens, report.tokens) << "\n";
  for (const auto& [name, split] : report.splits) {
    out << std::left << std::setw(11) << name << count_text(split.documents) << " documents, "
        << count_text(split.tokens) << " tokens, " << split.shards.size() << " shard"
        << (split.shards.size() == 1 ? "" : "s") << "\n";
  }
  out << "Written to " << output << "\n";
  return out.str();
}

int run(const std::vector<std::string>& arguments) {
  TokenizeOptions values;
  Flags flags;
  Options options(data_tokenize_command());
  register_inputs(options, flags, values);
  register_outputs(options, flags, values);
  if (!options.parse(arguments)) return exit_code::kOk;
  check(options, values.import);

  values.output = flags.output;
  values.tokenizer = flags.tokenizer;
  if (!flags.extensions.empty()) values.extensions = flags.extensions;
  values.import.invalid_utf8 =
      flags.invalid_utf8 == "replace" ? InvalidUtf8::replace : InvalidUtf8::refuse;
  values.training.sample_bytes = flags.sample_mib << 20;
  values.training.seed = values.seed;
  values.shard_bytes = flags.shard_mib << 20;

  TokenizeReport report;
  {
    ProgressLine line;
    report = tokenize_corpus(values, [&](const TokenizeProgress& progress) {
      line.update(progress.phase, progress.done_bytes, progress.total_bytes);
    });
  }
  print_once(summary(report, flags.output));
  return exit_code::kOk;
}

}  // namespace

Command data_tokenize_command() {
  return {"data tokenize", "turn text files into token shards for training",
          "filigree data tokenize --input texts/ --output shards --vocabulary 8192", run};
}

}  // namespace filigree
