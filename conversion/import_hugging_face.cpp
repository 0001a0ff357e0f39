#include "conversion/import_hugging_face.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>

#include "checkpoint/checkpoint.hpp"
#include "conversion/model_description.hpp"
#include "conversion/model_weights.hpp"
#include "conversion/sentencepiece_model.hpp"
#include "data_pipeline/byte_level_bpe_file.hpp"
#include "data_pipeline/tokenizer.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/output_folder.hpp"
#include "runtime/storage/untrusted_json.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/training_checkpoint.hpp"

namespace filigree {
namespace fs = std::filesystem;

namespace {

// Says where a run comes from, and that another import may replace it: nothing was trained in it.
constexpr char kImportMarker[] = "filigree_import.json";

ModelConfig read_config(const fs::path& folder, const HuggingFaceImportOptions& options) {
  const fs::path file = folder / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    throw UserError(str("--input ", folder.string(),
                        ": there is no config.json; give the folder of a Hugging Face model"));
  const auto json = parse_json(read_file(file), FileProblem("config", file));
  ModelConfig config = model_from_description(json, file.string());
  if (options.sequence > 0) config.sequence = options.sequence;
  return config;
}

struct TakenTokenizer {
  Tokenizer tokenizer;
  bool prefix_dropped = false;
};

fs::path tokenizer_file(const fs::path& folder, const HuggingFaceImportOptions& options) {
  std::error_code error;
  if (!options.tokenizer.empty()) {
    if (fs::is_regular_file(options.tokenizer, error)) return options.tokenizer;
    throw UserError(str("--tokenizer ", options.tokenizer.string(), ": there is no such file"));
  }
  for (const char* name : {"tokenizer.model", "tokenizer.json"})
    if (fs::is_regular_file(folder / name, error)) return folder / name;
  throw UserError(str("--input ", folder.string(),
                      ": there is neither a tokenizer.model nor a tokenizer.json; give one whose "
                      "ids are the model's with --tokenizer FILE"));
}

TakenTokenizer take_tokenizer(const fs::path& folder, const HuggingFaceImportOptions& options) {
  const fs::path file = tokenizer_file(folder, options);
  std::string bytes = read_file(file);
  if (is_tokenizer_json(bytes)) return {Tokenizer::load(file)};
  const bool prefix = parse_sentencepiece_model(bytes, file.string()).adds_dummy_prefix;
  if (prefix) bytes = without_dummy_prefix(bytes);
  return {Tokenizer::from_bytes(std::move(bytes), file.string()), prefix};
}

// A piece of each at a time.
bool same_values(const WeightFolder& weights, const std::string& left, const std::string& right) {
  const Shape& shape = weights.shape(left);
  if (weights.dtype(left) != weights.dtype(right) || shape != weights.shape(right)) return false;
  constexpr std::int64_t kPieceBytes = 64 << 10;
  const std::int64_t rows = shape[0];
  const std::int64_t row_bytes = shape.numel() / rows * size_of(weights.dtype(left));
  const std::int64_t step = std::clamp<std::int64_t>(kPieceBytes / row_bytes, 1, rows);
  for (std::int64_t row = 0; row < rows; row += step) {
    const std::int64_t end = std::min(row + step, rows);
    const Tensor one = weights.read_rows(left, row, end),
                 other = weights.read_rows(right, row, end);
    if (std::memcmp(one.raw(), other.raw(), static_cast<std::size_t>(one.bytes())) != 0)
      return false;
  }
  return true;
}

// What some exporters add: constants of the rotary embedding, and a second name of tied embeddings.
bool is_redundant(const WeightFolder& weights, const std::string& name, bool tied) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (!tied || name != "lm_head.weight") return false;
  if (same_values(weights, "model.embed_tokens.weight", name)) return true;
  throw UserError(str(weights.place(name),
                      ": tie_word_embeddings = true, but lm_head.weight differs from "
                      "model.embed_tokens.weight; set it false in config.json"));
}

void check_fits(const WeightFolder& weights, const ModelWeight& weight) {
  const std::string& name = weight.hugging_face;
  const Shape& shape = weights.shape(name);
  if (shape != weight.shape)
    throw UserError(str(weights.place(name), ": tensor '", name, "' has shape ", shape,
                        ", config.json makes it ", weight.shape));
  const DType dtype = weights.dtype(name);
  if (!is_floating(dtype))
    throw UserError(str(weights.place(name), ": tensor '", name, "' holds whole numbers (",
                        name_of(dtype), "); quantized weights are not supported"));
}

// The parameters as the checkpoint names them, each read when it is its turn; `weights` outlives
// them. The folder holds these weights and no others, which is checked now.
std::vector<PromisedTensor> promised_parameters(const WeightFolder& weights,
                                                const ModelConfig& config) {
  std::vector<PromisedTensor> parameters;
  std::set<std::string> known;
  for (const ModelWeight& weight : model_weights(config)) {
    const std::string& name = weight.hugging_face;
    check_fits(weights, weight);
    known.insert(name);
    parameters.push_back(
        {"parameters/" + weight.parameter, DType::f32, weight.shape, [&weights, name] {
           return narrowed(weights.read(name), DType::f32,
                           str(weights.place(name), ": tensor '", name, "'"));
         }});
  }
  for (const std::string& name : weights.names())
    if (!known.contains(name) && !is_redundant(weights, name, config.tied_embeddings))
      throw UserError(str(weights.place(name), ": tensor '", name, "' of shape ",
                          weights.shape(name), " is not part of the model that config.json names"));
  return parameters;
}

PromisedSlice whole_slice(const PromisedTensor& tensor) {
  PromisedSlice slice;
  slice.name = tensor.name;
  slice.dtype = tensor.dtype;
  slice.shape = slice.global_shape = tensor.shape;
  slice.offset.resize(tensor.shape.sizes().size(), 0);
  slice.fetch = tensor.make;
  return slice;
}

void write_run(const fs::path& folder, const RunConfig& config, const ConfigText& text,
               const Tokenizer& tokenizer, const std::vector<PromisedTensor>& parameters) {
  const RunDirectory run = RunDirectory::create(folder);
  write_file_atomically(run.config_file(), str("# configuration ", text.hash, "\n", text.text));
  write_file_atomically(run.tokenizer_file(), tokenizer.bytes());
  TrainingState state;
  state.seed = config.train.seed;
  state.tokenizer_hash = tokenizer.hash();
  CheckpointInfo info;
  info.config_hash = text.hash;
  info.state = to_json(state);
  info.config = {{"text", text.text}};
  std::vector<PromisedSlice> slices;
  for (const PromisedTensor& parameter : parameters) slices.push_back(whole_slice(parameter));
  save_checkpoint(run.checkpoints(), info, slices, *self_communicator("world"), RetentionRule{});
}

}  // namespace

HuggingFaceImport import_hugging_face(const fs::path& folder, const fs::path& run,
                                      const HuggingFaceImportOptions& options,
                                      const std::function<ConfigText(const RunConfig&)>& text_of) {
  HuggingFaceImport result;
  ModelConfig model = read_config(folder, options);
  const TakenTokenizer taken = take_tokenizer(folder, options);
  result.prefix_dropped = taken.prefix_dropped;
  if (model.vocabulary < taken.tokenizer.vocabulary())
    throw UserError(str("--input ", folder.string(), ": config.json says vocab_size = ",
                        model.vocabulary, ", but the tokenizer has ", taken.tokenizer.vocabulary(),
                        " entries: it is not the model's"));
  result.config.model = model.resolved(taken.tokenizer.vocabulary());
  result.config.run = run.string();
  const ConfigText text = text_of(result.config);
  OutputFolder output(run, options.overwrite, kImportMarker);
  const WeightFolder weights(folder);
  std::vector<PromisedTensor> parameters = promised_parameters(weights, result.config.model);
  report_progress(parameters, 1, options.progress);
  write_run(output.path(), result.config, text, taken.tokenizer, parameters);
  write_file_atomically(
      output.path() / kImportMarker,
      nlohmann::ordered_json({{"version", 1}, {"input", folder.string()}}).dump(2) + "\n");
  output.publish();
  result.tensors = std::ssize(parameters);
  return result;
}

}  // namespace filigree
