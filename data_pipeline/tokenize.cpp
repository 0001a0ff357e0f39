#include "data_pipeline/tokenize.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "data_pipeline/manifest.hpp"
#include "data_pipeline/shard_writer.hpp"
#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/output_folder.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Standard input can be read once only, and two passes are needed.
void spool_standard_input(const std::filesystem::path& path) {
  PosixFile file = PosixFile::create(path);
  std::vector<char> piece(std::size_t{1} << 18);
  for (std::int64_t size = 0;;) {
    const ssize_t count = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw UserError(str("cannot read standard input: ", std::strerror(errno)));
    if (count == 0) break;
    file.write_at(size, piece.data(), count);
    size += count;
  }
  file.close();
}

std::vector<InputFile> gather_inputs(const TokenizeOptions& options,
                                     const std::filesystem::path& spool) {
  std::vector<InputFile> files;
  bool spooled = false;
  for (const std::string& input : options.inputs) {
    if (input != "-") {
      for (InputFile& file : list_inputs({input}, options.extensions)) {
        files.push_back(std::move(file));
      }
      continue;
    }
    if (std::exchange(spooled, true)) throw UserError("input -: standard input is given twice");
    spool_standard_input(spool);
    files.push_back({spool, "standard input",
                     static_cast<std::int64_t>(std::filesystem::file_size(spool)),
                     &importers().front()});
  }
  return files;
}

// One pass over all files: on_piece(text) for every piece that is not empty, on_end() after every
// document that had one. `documents` is then the index of the current document.
struct Pass {
  std::int64_t documents = 0, empty_documents = 0, text_bytes = 0, replaced_bytes = 0;

  template <class OnPiece, class OnEnd>
  void run(const std::vector<InputFile>& files, const ImportOptions& options,
           std::string_view phase, const std::function<void(const TokenizeProgress&)>& progress,
           const OnPiece& on_piece, const OnEnd& on_end) {
    std::int64_t total = 0, done = 0;
    for (const InputFile& file : files) total += file.bytes;
    for (const InputFile& file : files) {
      const std::unique_ptr<Importer> importer =
          file.importer->open(file.path, file.shown, options);
      std::int64_t document_bytes = 0;
      for (TextPiece piece; importer->next(piece);) {
        document_bytes += static_cast<std::int64_t>(piece.text.size());
        if (!piece.text.empty()) on_piece(piece.text);
        if (piece.ends_document) {
          if (document_bytes > 0) on_end();
          ++(document_bytes > 0 ? documents : empty_documents);
          text_bytes += std::exchange(document_bytes, 0);
        }
        progress({phase, done + importer->bytes_read(), total});
      }
      replaced_bytes += importer->replaced_bytes();
      done += file.bytes;
    }
  }
};

nlohmann::json describe(const TokenizeOptions& options) {
  nlohmann::json json{
      {"inputs", options.inputs},
      {"validation", options.validation},
      {"seed", options.seed},
      {"document_separator", options.import.document_separator},
      {"document_lines", options.import.document_lines},
      {"document_paragraphs", options.import.document_paragraphs},
      {"text_field", options.import.text_field},
      {"invalid_utf8", options.import.invalid_utf8 == InvalidUtf8::refuse ? "refuse" : "replace"}};
  if (options.tokenizer.empty()) {
    json["tokenizer_training"] = {{"vocabulary", options.training.vocabulary},
                                  {"sample_bytes", options.training.sample_bytes},
                                  {"character_coverage", options.training.character_coverage},
                                  {"seed", options.training.seed}};
  } else {
    json["tokenizer"] = options.tokenizer.string();
  }
  return json;
}

// The run of tokenize_corpus, a phase a function.
class Run {
 public:
  Run(const TokenizeOptions& options, const std::function<void(const TokenizeProgress&)>& progress)
      : options_(options),
        progress_(progress),
        folder_(options.output, options.overwrite, kDatasetManifestName) {}

  TokenizeReport all() {
    const std::filesystem::path spool = folder_.path() / "standard_input.spool";
    files_ = gather_inputs(options_, spool);
    report_.files = static_cast<std::int64_t>(files_.size());
    const Tokenizer tokenizer = read_and_train();
    encode(tokenizer);
    std::filesystem::remove(spool);
    write_file_atomically(folder_.path() / kTokenizerName, tokenizer.bytes());
    write_manifest(folder_.path(), {.tokenizer_hash = tokenizer.hash(),
                                    .vocabulary = tokenizer.vocabulary(),
                                    .end_of_document = tokenizer.end_of_document(),
                                    .splits = report_.splits,
                                    .options = describe(options_)});
    folder_.publish();
    return std::move(report_);
  }

 private:
  Tokenizer read_and_train();
  void check_documents() const;
  void encode(const Tokenizer& tokenizer);

  const TokenizeOptions& options_;
  const std::function<void(const TokenizeProgress&)>& progress_;
  OutputFolder folder_;
  std::vector<InputFile> files_;
  Pass first_;
  TokenizeReport report_;
};

Tokenizer Run::read_and_train() {
  // A wrong model file should not have to wait for the text.
  std::optional<Tokenizer> given;
  if (!options_.tokenizer.empty()) given = Tokenizer::load(options_.tokenizer);

  TokenizerTrainer trainer(options_.training);
  Stopwatch watch;
  first_.run(
      files_, options_.import, "reading", progress_,
      [&](const std::string& text) {
        if (!given) trainer.add(text);
      },
      [&] {
        if (!given) trainer.end_document();
      });
  report_.documents = first_.documents;
  report_.empty_documents = first_.empty_documents;
  report_.text_bytes = first_.text_bytes;
  report_.replaced_bytes = first_.replaced_bytes;
  report_.read_seconds = watch.seconds();
  check_documents();
  if (given) return *given;

  progress_({"training the tokenizer", 0, 0});
  watch = Stopwatch();
  report_.sampled_bytes = trainer.sampled_bytes();
  Tokenizer trained = trainer.train();
  report_.train_seconds = watch.seconds();
  return trained;
}

void Run::check_documents() const {
  if (first_.documents == 0) {
    throw UserError(str("the input is empty: ", files_.size(),
                        " file(s) hold no text, the first is ", files_.front().shown));
  }
  if (first_.documents == 1 && options_.validation > 0) {
    throw UserError(str("the input is a single document (", files_.front().shown,
                        "), so none can be held out for "
                        "validation; say where documents begin with --document-separator TEXT, "
                        "--document-lines N or "
                        "--document-paragraphs N, or give --validation 0"));
  }
}

void Run::encode(const Tokenizer& tokenizer) {
  const Stopwatch watch;
  const SplitRule rule(first_.documents, options_.validation, options_.seed);
  const auto writer_of = [&](const char* split) {
    return ShardWriter({folder_.path(), split, options_.shard_bytes}, tokenizer);
  };
  ShardWriter train = writer_of("train"), validation = writer_of("validation");
  std::int64_t train_bytes = 0, validation_bytes = 0;

  Pass pass;
  StreamEncoder encoder(tokenizer);
  std::vector<std::int32_t> ids;
  bool within_document = false;
  const auto write = [&] {
    ShardWriter& writer = rule.is_validation(pass.documents) ? validation : train;
    if (!std::exchange(within_document, true)) {
      writer.begin_document();
      if (tokenizer.begins_documents()) writer.append(std::array{tokenizer.begin_of_document()});
    }
    for (const std::int32_t id : ids) {
      report_.unknown_tokens += tokenizer.is_unknown(id) ? 1 : 0;
      report_.byte_tokens += tokenizer.is_byte(id) ? 1 : 0;
    }
    writer.append(ids);
    ids.clear();
  };
  pass.run(
      files_, options_.import, "tokenizing", progress_,
      [&](const std::string& text) {
        (rule.is_validation(pass.documents) ? validation_bytes : train_bytes) +=
            static_cast<std::int64_t>(text.size());
        encoder.push(text, ids);
        write();
      },
      [&] {
        encoder.finish(ids);
        ids.push_back(tokenizer.end_of_document());
        write();
        within_document = false;
      });
  if (pass.documents != first_.documents || pass.text_bytes != first_.text_bytes) {
    throw UserError("an input file changed while it was read; run again");
  }
  report_.splits["train"] = train.finish();
  report_.splits["train"].text_bytes = train_bytes;
  if (options_.validation > 0) {
    report_.splits["validation"] = validation.finish();
    report_.splits["validation"].text_bytes = validation_bytes;
  }
  for (const auto& [name, split] : report_.splits) report_.tokens += split.tokens;
  report_.vocabulary = tokenizer.vocabulary();
  report_.encode_seconds = watch.seconds();
}

}  // namespace

SplitRule::SplitRule(std::int64_t documents, double fraction, std::uint64_t seed)
    : fraction_(fraction), seed_(seed) {
  FILIGREE_CHECK(fraction >= 0 && fraction < 1, "validation fraction ", fraction);
  if (fraction == 0) return;
  FILIGREE_CHECK(documents >= 2, "documents: ", documents);
  std::int64_t lowest = 0, highest = 0;
  for (std::int64_t i = 1; i < documents; ++i) {
    if (uniform(i) < uniform(lowest)) lowest = i;
    if (uniform(i) > uniform(highest)) highest = i;
  }
  if (uniform(lowest) >= fraction_) forced_validation_ = lowest;
  if (uniform(highest) < fraction_) forced_train_ = highest;
}

double SplitRule::uniform(std::int64_t document) const {
  static const std::uint64_t stream = hash_text("validation split");
  return Philox(seed_, RandomPurpose::sampling, stream)
      .uniform(static_cast<std::uint64_t>(document));
}

bool SplitRule::is_validation(std::int64_t document) const {
  if (fraction_ == 0 || document == forced_train_) return false;
  return document == forced_validation_ || uniform(document) < fraction_;
}

TokenizeReport tokenize_corpus(const TokenizeOptions& options,
                               const std::function<void(const TokenizeProgress&)>& progress) {
  FILIGREE_CHECK(!options.inputs.empty(), "no inputs");
  try {
    static const std::function<void(const TokenizeProgress&)> silent = [](const auto&) {};
    return Run(options, progress ? progress : silent).all();
  } catch (const std::filesystem::filesystem_error& error) {
    throw UserError(error.what());
  }
}

}  // namespace filigree
