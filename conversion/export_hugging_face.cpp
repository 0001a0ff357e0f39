#include "conversion/export_hugging_face.hpp"

#include <limits>

#include "conversion/model_weights.hpp"
#include "conversion/python_files.hpp"
#include "conversion/tokenizer_files.hpp"
#include "layers/sparsity/registry.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/output_folder.hpp"

namespace filigree {
namespace {

constexpr char kWeights[] = "model", kGates[] = "gates";
// Says where a folder comes from, and that another export may replace it.
constexpr char kExportMarker[] = "filigree_export.json";

struct Weights {
  std::vector<PromisedTensor> model, gates;
};

// Which blocks a mechanism of a fixed layout reads: u8 [heads, blocks, blocks], for the longest
// sequence; no row depends on the length. All layers have the same.
PromisedTensor block_layout(const ModelConfig& config, const BlockLayout& layout) {
  const Shape shape{config.heads, layout.blocks, layout.blocks};
  return {"model.block_layout", DType::u8, shape,
          [shape, cells = layout.cells] { return Tensor::from<std::uint8_t>(shape, cells); }};
}

std::optional<BlockLayout> fixed_layout(const ModelConfig& config) {
  const Mesh mesh(self_communicator("world"), {});
  ParameterStore store;
  const std::int64_t block = config.sparsity.key_block;
  return make_mechanism({"layout", 0, config, mesh, store})
      ->fixed_layout((config.sequence + block - 1) / block);
}

Weights promised_weights(const RunSource& run, const HuggingFaceExportOptions& options) {
  Weights weights;
  for (const ModelWeight& weight : model_weights(run.config.model)) {
    const bool apart = weight.gate && options.gates_separate;
    (apart ? weights.gates : weights.model)
        .push_back(
            promised_parameter(run.reader, weight.parameter, weight.hugging_face, options.dtype));
  }
  // Single bytes come last: what follows them would not be aligned.
  if (const auto layout = fixed_layout(run.config.model))
    weights.model.push_back(block_layout(run.config.model, *layout));
  report_progress(weights.model, options.verify ? 2 : 1, options.progress);
  return weights;
}

void write_json(const std::filesystem::path& file, const nlohmann::ordered_json& json) {
  write_file_atomically(file, json.dump(2) + "\n");
}

ModelConfig dense(ModelConfig config) {
  config.mechanism = "dense";
  return config;
}

}  // namespace

HuggingFaceExport export_hugging_face(const RunSource& run, const std::filesystem::path& folder,
                                      const HuggingFaceExportOptions& options) {
  const ModelConfig& config = run.config.model;
  if (options.gates_separate && !mechanism_learns(config.mechanism))
    throw UserError(str("--gates-separate: run ", run.config.run, " has mechanism ",
                        config.mechanism, ", which has no gates; leave the option out"));
  OutputFolder output(folder, options.overwrite, kExportMarker);
  const std::filesystem::path& path = output.path();
  const SpecialIds ids = special_ids(run.tokenizer);
  const ModelConfig described = options.gates_separate ? dense(config) : config;

  HuggingFaceExport result;
  result.architecture = architecture_of(described);
  write_json(path / "config.json",
             describe_model(described, result.architecture, ids, options.dtype));
  write_json(path / "generation_config.json", describe_generation(config, ids));
  write_json(path / kExportMarker, {{"version", 1},
                                    {"run", run.config.run},
                                    {"step", run.reader.info().step},
                                    {"dtype", name_of(options.dtype)}});
  write_tokenizer_files(path, run.tokenizer, config.sequence);
  const Weights weights = promised_weights(run, options);
  result.files = write_weights(path, kWeights, weights.model, options.most_shard_bytes);
  if (options.gates_separate) {
    write_json(path / "gates_config.json",
               describe_model(config, Architecture::filigree, ids, options.dtype));
    write_weights(path, kGates, weights.gates, std::numeric_limits<std::int64_t>::max());
  }
  if (options.gates_separate || result.architecture == Architecture::filigree)
    for (const PythonFile& file : python_files())
      write_file_atomically(path / file.name, file.text);
  if (options.verify) {
    verify_weights(path, kWeights, weights.model);
    if (options.gates_separate) verify_weights(path, kGates, weights.gates);
  }
  output.publish();

  result.tensors = static_cast<int>(weights.model.size());
  result.gate_tensors = static_cast<int>(weights.gates.size());
  for (const PromisedTensor& tensor : weights.model) result.bytes += tensor.bytes();
  return result;
}

}  // namespace filigree
