#include "conversion/export_gguf.hpp"

#include <cstring>
#include <system_error>

#include "conversion/gguf.hpp"
#include "conversion/gguf_tokenizer.hpp"
#include "conversion/model_description.hpp"
#include "conversion/model_weights.hpp"
#include "runtime/storage/output_file.hpp"

namespace filigree {
namespace fs = std::filesystem;

namespace {

constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"embedding.", "token_embd."},
    {"norm.", "output_norm."},
    {"head.", "output."},
    {"norm1.", "attn_norm."},
    {"norm2.", "ffn_norm."},
    {"attention.query.", "attn_q."},
    {"attention.key.", "attn_k."},
    {"attention.value.", "attn_v."},
    {"attention.output.", "attn_output."},
    {"attention.query_norm.", "attn_q_norm."},
    {"attention.key_norm.", "attn_k_norm."},
    {"feed_forward.gate.", "ffn_gate."},
    {"feed_forward.up.", "ffn_up."},
    {"feed_forward.down.", "ffn_down."},
};

// llama.cpp's llama turns neighbouring elements of a head where we turn element i with i + K/2: row
// 2i of a head there is row i here, and row 2i + 1 is row i + K/2. `rows` are whole heads.
Tensor interleaved(const Tensor& rows, std::int64_t head_dim) {
  const Tensor result = Tensor::empty(rows.shape(), rows.dtype());
  const auto row_bytes = static_cast<std::size_t>(rows.bytes() / rows.dim(0));
  const auto* from = static_cast<const std::byte*>(rows.raw());
  auto* to = static_cast<std::byte*>(result.raw());
  for (std::int64_t row = 0; row < rows.dim(0); ++row) {
    const std::int64_t head = row / head_dim * head_dim, place = row % head_dim;
    const std::int64_t source = head + place / 2 + place % 2 * (head_dim / 2);
    std::memcpy(to + static_cast<std::size_t>(row) * row_bytes,
                from + static_cast<std::size_t>(source) * row_bytes, row_bytes);
  }
  return result;
}

// What llama.cpp's llama divides the frequencies of plain positions by, [K/2].
Tensor rotary_divisors(const ModelConfig& config) {
  const Tensor divisors = Tensor::empty({config.head_dim / 2}, DType::f32);
  const RotaryFrequencies plain{.theta = config.rope_theta}, scaled = config.rotary();
  for (std::int64_t i = 0; i < divisors.numel(); ++i)
    divisors.data<float>()[i] =
        static_cast<float>(plain.of(i, config.head_dim) / scaled.of(i, config.head_dim));
  return divisors;
}

std::vector<PromisedTensor> promised_tensors(const RunSource& run, Architecture architecture,
                                             DType dtype) {
  std::vector<PromisedTensor> tensors;
  for (const ModelWeight& weight : model_weights(run.config.model)) {
    PromisedTensor tensor =
        promised_parameter(run.reader, weight.parameter, renamed(weight.parameter, kNames, "blk."),
                           weight.shape.rank() == 1 ? DType::f32 : dtype);
    const bool turned = weight.parameter.find(".attention.query.") != std::string::npos ||
                        weight.parameter.find(".attention.key.") != std::string::npos;
    if (turned && architecture == Architecture::llama)
      tensor.make = [make = tensor.make, head_dim = run.config.model.head_dim] {
        return interleaved(make(), head_dim);
      };
    tensors.push_back(std::move(tensor));
  }
  if (run.config.model.rope_scaling == "llama3")
    tensors.push_back({.name = "rope_freqs.weight",
                       .dtype = DType::f32,
                       .shape = {run.config.model.head_dim / 2},
                       .make = [&run] { return rotary_divisors(run.config.model); }});
  return tensors;
}

void describe(const ModelConfig& c, std::string_view architecture, DType dtype,
              const std::string& name, GgufWriter& writer) {
  const auto key = [&](const char* suffix) { return str(architecture, suffix); };
  const auto number = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  writer.add("general.architecture", architecture);
  writer.add("general.name", std::string_view(name));
  // Of most tensors: 0 f32, 1 f16, 32 bf16 (llama.h, llama_ftype).
  writer.add("general.file_type", dtype == DType::f32 ? 0u : dtype == DType::f16 ? 1u : 32u);
  writer.add(key(".vocab_size"), number(c.vocabulary));
  writer.add(key(".context_length"), number(c.sequence));
  writer.add(key(".embedding_length"), number(c.width));
  writer.add(key(".block_count"), number(c.layers));
  writer.add(key(".feed_forward_length"), number(c.feed_forward));
  writer.add(key(".attention.head_count"), number(c.heads));
  writer.add(key(".attention.head_count_kv"), number(c.kv_heads));
  writer.add(key(".attention.key_length"), number(c.head_dim));
  writer.add(key(".attention.value_length"), number(c.head_dim));
  writer.add(key(".attention.layer_norm_rms_epsilon"), static_cast<float>(c.norm_eps));
  writer.add(key(".rope.dimension_count"), number(c.head_dim));
  writer.add(key(".rope.freq_base"), static_cast<float>(c.rope_theta));
  if (c.rope_scaling == "linear") {
    writer.add(key(".rope.scaling.type"), std::string_view("linear"));
    writer.add(key(".rope.scaling.factor"), static_cast<float>(c.rope_factor));
  }
}

Architecture checked_architecture(const ModelConfig& config) {
  const Architecture architecture = architecture_of(config);
  if (architecture != Architecture::llama && config.rope_scaling == "llama3")
    throw UserError(
        "--to gguf: llama.cpp takes model.rope_scaling = llama3 with neither model.qk_norm nor "
        "model.qkv_bias; --to huggingface takes it");
  if (architecture == Architecture::llama || architecture == Architecture::qwen2 ||
      architecture == Architecture::qwen3)
    return architecture;
  const std::string reason = config.output_gate ? "model.output_gate = true"
                             : config.mechanism != "dense"
                                 ? "model.mechanism = " + config.mechanism
                                 : "both model.qk_norm and model.qkv_bias";
  throw UserError(str("--to gguf takes dense models that llama.cpp computes, and this one has ",
                      reason, "; --to huggingface takes it"));
}

void check_target(const fs::path& file, bool overwrite) {
  const auto refuse = [&](const auto&... why) {
    throw UserError(str("--output ", file.string(), ": ", why...));
  };
  std::error_code error;
  if (!file.has_filename() || fs::is_directory(file, error))
    refuse("it is a folder, --to gguf writes a file");
  if (!fs::exists(file, error)) return;
  if (!overwrite) refuse("the file exists; choose another or use --overwrite");
  if (!is_gguf(file))
    refuse("--overwrite replaces GGUF files, and this is none; remove it yourself");
}

}  // namespace

GgufExport export_gguf(const RunSource& run, const fs::path& file,
                       const GgufExportOptions& options) {
  const ModelConfig& config = run.config.model;
  const Architecture architecture = checked_architecture(config);
  check_target(file, options.overwrite);
  GgufWriter writer;
  const std::string name = fs::path(run.config.run).lexically_normal().filename().string();
  describe(config, name_of(architecture), options.dtype, name, writer);
  describe_tokenizer(run.tokenizer, config.vocabulary, writer);
  auto tensors = promised_tensors(run, architecture, options.dtype);
  report_progress(tensors, options.verify ? 2 : 1, options.progress);
  std::error_code error;  // what cannot be made is named where the file is made
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  OutputFile output(file);
  writer.write(output.path(), tensors);
  if (options.verify) writer.verify(output.path(), tensors);
  const auto bytes = static_cast<std::int64_t>(fs::file_size(output.path()));
  output.publish();
  return {std::string(name_of(architecture)), static_cast<int>(tensors.size()), bytes};
}

}  // namespace filigree
