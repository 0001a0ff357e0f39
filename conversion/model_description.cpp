#include "conversion/model_description.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "layers/sparsity/block_budget.hpp"

namespace filigree {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

bool is_dense(const ModelConfig& config) { return config.mechanism == "dense"; }
bool is_plain_window(const ModelConfig& config) {
  return config.mechanism == "sliding_window" && config.sparsity.sinks == 0;
}

struct Names {
  Architecture architecture;
  const char *type, *model;
};
constexpr std::array<Names, 5> kNames = {
    {{Architecture::llama, "llama", "LlamaForCausalLM"},
     {Architecture::mistral, "mistral", "MistralForCausalLM"},
     {Architecture::qwen2, "qwen2", "Qwen2ForCausalLM"},
     {Architecture::qwen3, "qwen3", "Qwen3ForCausalLM"},
     {Architecture::filigree, "filigree", "FiligreeForCausalLM"}}};
const Names& names_of(Architecture architecture) {
  return kNames[static_cast<std::size_t>(architecture)];
}

std::string torch_name(DType dtype) {
  return dtype == DType::bf16 ? "bfloat16" : dtype == DType::f16 ? "float16" : "float32";
}

// How many blocks each group of a sequence of the training length gets; groups after it get as many
// as the last. Empty where a threshold decides.
std::vector<std::int32_t> budgets_of(const ModelConfig& config, bool block_causal) {
  SparsityConfig sparsity = config.sparsity;
  if (block_causal) sparsity.query_group = sparsity.key_block;
  BlockGrid grid;
  grid.batch = grid.heads = 1;
  grid.query_block = sparsity.query_group;
  grid.key_block = sparsity.key_block;
  grid.block_causal = block_causal;
  grid.local_blocks = sparsity.adaptive_local_blocks();
  const std::int64_t groups = (config.sequence + grid.query_block - 1) / grid.query_block;
  grid.query_length = grid.key_length = groups * grid.query_block;  // whole groups
  const BlockBudget budget(sparsity, config.sequence, block_causal);
  const auto choice = budget.choice(ExecutionContext{}, grid, false, BatchInfo{});
  if (!choice.budgets_N.defined()) return {};
  const auto budgets = choice.budgets_N.span<std::int32_t>();
  return {budgets.begin(), budgets.end()};
}

// What the bundled class needs to choose the blocks that our mechanisms choose.
ordered_json describe_sparsity(const ModelConfig& config) {
  const SparsityConfig& s = config.sparsity;
  ordered_json result = {{"window", s.window}, {"sinks", s.sinks}};
  if (is_dense(config)) return ordered_json::object();
  if (config.mechanism == "sliding_window") return result;
  result["key_block"] = s.key_block;
  const bool adaptive = config.mechanism == "adaptive", seer = config.mechanism == "seer";
  if (!adaptive && !seer) return result;
  result["query_group"] = seer ? s.key_block : s.query_group;
  result["selection"] = s.selection == "threshold" ? "threshold" : "top_k";
  if (s.selection == "threshold")
    result["threshold"] = s.threshold;
  else
    result["budgets"] = budgets_of(config, seer);
  if (seer) return result;
  result["local_blocks"] = s.adaptive_local_blocks();
  result["dense_heads"] = s.dense_heads;
  result["gate_dim"] = s.gate_dim == 0 ? config.head_dim : s.gate_dim;
  result["soft"] = s.learns_end_to_end() && !(s.selection == "density" && s.density == 1.0);
  result["head_gate"] = s.head_gate;
  result["head_threshold"] = s.head_threshold;
  return result;
}

ordered_json describe_rope_scaling(const ModelConfig& config) {
  if (config.rope_scaling == "none") return nullptr;
  ordered_json scaling = {{"rope_type", config.rope_scaling}, {"factor", config.rope_factor}};
  if (config.rope_scaling == "llama3") {
    scaling["low_freq_factor"] = config.rope_low_turns;
    scaling["high_freq_factor"] = config.rope_high_turns;
    scaling["original_max_position_embeddings"] = config.rope_original_sequence;
  }
  return scaling;
}

void add_bundled(const ModelConfig& config, ordered_json& description) {
  description["auto_map"] = {{"AutoConfig", "configuration_filigree.FiligreeConfig"},
                             {"AutoModelForCausalLM", "modeling_filigree.FiligreeForCausalLM"}};
  description["qkv_bias"] = config.qkv_bias;
  description["qk_norm"] = config.qk_norm;
  description["output_gate"] = config.output_gate;
  description["mechanism"] = config.mechanism;
  description["sparsity"] = describe_sparsity(config);
  description["use_cache"] = false;
}

}  // namespace

std::string_view name_of(Architecture architecture) { return names_of(architecture).type; }

Architecture architecture_of(const ModelConfig& config) {
  const bool plain = !config.qk_norm && !config.qkv_bias;
  if (config.output_gate) return Architecture::filigree;
  if (is_plain_window(config))  // not every version of Mistral's class scales positions
    return plain && config.rope_scaling == "none" ? Architecture::mistral : Architecture::filigree;
  if (!is_dense(config)) return Architecture::filigree;
  if (plain) return Architecture::llama;
  if (config.qk_norm && config.qkv_bias) return Architecture::filigree;
  return config.qk_norm ? Architecture::qwen3 : Architecture::qwen2;
}

ordered_json describe_model(const ModelConfig& config, Architecture architecture,
                            const SpecialIds& ids, DType dtype) {
  ordered_json description = {
      {"architectures", ordered_json::array({names_of(architecture).model})},
      {"model_type", names_of(architecture).type},
      {"vocab_size", config.vocabulary},
      {"hidden_size", config.width},
      {"intermediate_size", config.feed_forward},
      {"num_hidden_layers", config.layers},
      {"num_attention_heads", config.heads},
      {"num_key_value_heads", config.kv_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", config.sequence},
      {"rms_norm_eps", config.norm_eps},
      {"rope_theta", config.rope_theta},
      {"rope_scaling", describe_rope_scaling(config)},
      {"tie_word_embeddings", config.tied_embeddings},
      {"attention_dropout", 0.0},
      {"initializer_range", config.initial_deviation},
      {"bos_token_id", ids.begin},
      {"eos_token_id", ids.end},
      {"torch_dtype", torch_name(dtype)}};
  switch (architecture) {
    case Architecture::llama:
      description["attention_bias"] = description["mlp_bias"] = false;
      break;
    case Architecture::mistral:
      description["sliding_window"] = config.sparsity.window;
      break;
    case Architecture::qwen3:
      description["attention_bias"] = false;
      [[fallthrough]];
    case Architecture::qwen2:
      description["use_sliding_window"] = false;
      break;
    case Architecture::filigree:
      add_bundled(config, description);
      break;
  }
  return description;
}

ordered_json describe_generation(const ModelConfig& config, const SpecialIds& ids) {
  return {{"bos_token_id", ids.begin},
          {"eos_token_id", ids.end},
          {"pad_token_id", ids.end},
          {"max_length", config.sequence}};
}

namespace {

constexpr std::int64_t kMostPositions = 1 << 27;

// Takes values out of a config.json and collects what is wrong with them.
class Description {
 public:
  explicit Description(const json& values) : values_(values) {}

  // At most `most`: far above any model, low enough that a model's size can be computed.
  std::int64_t size(const char* key, std::int64_t most, std::int64_t absent = 0) {
    const json value = get(key);
    if (value.is_null() && absent > 0) return absent;
    if (value.is_number_integer())  // one that does not fit turns negative
      if (const auto number = value.get<std::int64_t>(); number > 0 && number <= most)
        return number;
    add(key, str("must be a positive whole number, at most ", most));
    return 1;
  }
  double number(const char* key, double absent) {
    const json value = get(key);
    if (value.is_null()) return absent;
    if (value.is_number() && value.get<double>() > 0.0) return value.get<double>();
    add(key, "must be a positive number");
    return absent;
  }
  bool flag(const char* key, bool absent) {
    const json value = get(key);
    if (value.is_null()) return absent;
    if (value.is_boolean()) return value.get<bool>();
    add(key, "must be true or false");
    return absent;
  }
  std::string text(const char* key, const std::string& absent) {
    const json value = get(key);
    return value.is_string() ? value.get<std::string>() : value.is_null() ? absent : value.dump();
  }
  bool has(const char* key) const { return values_.contains(key); }
  // A null is an absence.
  json get(const char* key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? json() : *found;
  }
  void refuse_unless(bool fits, const char* key, const char* supported) {
    if (!fits) add(key, supported);
  }
  void throw_if_any(const std::string& source) const {
    if (!problems_.empty()) throw UserError(str(source, ": ", problems_));
  }

 private:
  void add(const char* key, const std::string& what) {
    problems_ += str(problems_.empty() ? "" : "; ", key, " = ", get(key).dump(), ": ", what);
  }
  const json& values_;
  std::string problems_;
};

std::optional<Architecture> importable(const std::string& type) {
  for (const Names& names : kNames)
    if (type == names.type && names.architecture != Architecture::filigree)
      return names.architecture;
  return std::nullopt;
}

// Whether it is a scaling that we know, with all that belongs to it. "type": of older files.
bool read_rope_scaling(const json& scaling, ModelConfig& config) {
  if (scaling.is_null()) return true;
  if (!scaling.is_object()) return false;
  const json type = scaling.value(scaling.contains("rope_type") ? "rope_type" : "type", json());
  if (type == "default") return true;
  if (type != "linear" && type != "llama3") return false;
  const auto has = [&](const char* key, auto& target) {
    const json value = scaling.value(key, json());
    constexpr bool kWhole = std::is_integral_v<std::remove_reference_t<decltype(target)>>;
    if (kWhole ? !value.is_number_integer() : !value.is_number()) return false;
    target = value;
    return true;
  };
  config.rope_scaling = type;
  return has("factor", config.rope_factor) &&
         (type == "linear" ||
          (has("low_freq_factor", config.rope_low_turns) &&
           has("high_freq_factor", config.rope_high_turns) &&
           has("original_max_position_embeddings", config.rope_original_sequence)));
}

void read_rope(Description& values, ModelConfig& config) {
  config.rope_theta = values.number("rope_theta", config.rope_theta);
  const json parameters = values.get("rope_parameters");  // of transformers 5
  if (parameters.is_object() && parameters.contains("rope_theta")) {
    const json& theta = parameters["rope_theta"];
    values.refuse_unless(theta.is_number() && theta > 0.0, "rope_parameters",
                         "its rope_theta must be a positive number");
    if (theta.is_number()) config.rope_theta = theta;
  }
  const char* const supported =
      "not supported; null, type default, linear with factor, and llama3 with factor, "
      "low_freq_factor, high_freq_factor and original_max_position_embeddings are";
  for (const char* key : {"rope_scaling", "rope_parameters"})
    values.refuse_unless(read_rope_scaling(values.get(key), config), key, supported);
  values.refuse_unless(values.number("partial_rotary_factor", 1.0) == 1.0, "partial_rotary_factor",
                       "every element of a head turns; only 1 is supported");
}

bool reads_windows(const json& layer_types) {
  return layer_types.is_array() &&
         std::any_of(layer_types.begin(), layer_types.end(),
                     [](const json& type) { return type != "full_attention"; });
}

void read_window(Description& values, Architecture architecture, ModelConfig& config) {
  if (architecture == Architecture::mistral) {
    constexpr std::int64_t kAbsent =
        4096;  // what transformers takes; a null says that there is none
    if (values.has("sliding_window") && values.get("sliding_window").is_null()) return;
    config.mechanism = "sliding_window";
    config.sparsity.window = values.size("sliding_window", kMostPositions, kAbsent);
    // No part of a window, but it must fit the sequence.
    config.sparsity.key_block = std::clamp<std::int64_t>(config.sequence, 16, 64);
    return;
  }
  values.refuse_unless(!values.flag("use_sliding_window", false), "use_sliding_window",
                       "windows of some layers are not supported; false is, and Mistral's window "
                       "of all layers");
  values.refuse_unless(!reads_windows(values.get("layer_types")), "layer_types",
                       "layers of several kinds are not supported; full_attention in all is");
}

}  // namespace

ModelConfig model_from_description(const json& description, const std::string& source) {
  if (!description.is_object()) throw UserError(str(source, ": it is no JSON object"));
  Description values(description);
  const std::string type = values.text("model_type", "");
  const auto architecture = importable(type);
  if (!architecture)
    throw UserError(str(source, ": model_type = '", type,
                        "' is not supported; llama, mistral, qwen2 and qwen3 are"));
  ModelConfig config;
  config.vocabulary = values.size("vocab_size", 1 << 24);
  config.width = values.size("hidden_size", 1 << 20);
  config.feed_forward = values.size("intermediate_size", 1 << 22);
  config.layers = values.size("num_hidden_layers", 10'000);
  config.heads = values.size("num_attention_heads", 1 << 14);
  config.kv_heads = values.size("num_key_value_heads", 1 << 14, config.heads);
  config.head_dim =
      values.size("head_dim", 1 << 12, std::max<std::int64_t>(1, config.width / config.heads));
  config.sequence = values.size("max_position_embeddings", kMostPositions, 2048);
  config.norm_eps = values.number("rms_norm_eps", 1e-6);
  config.initial_deviation = values.number("initializer_range", config.initial_deviation);
  config.tied_embeddings = values.flag("tie_word_embeddings", false);
  config.qk_norm = architecture == Architecture::qwen3;
  config.qkv_bias = architecture == Architecture::qwen2;
  read_rope(values, config);
  read_window(values, *architecture, config);
  values.refuse_unless(values.text("hidden_act", "silu") == "silu", "hidden_act",
                       "only silu is supported");
  values.refuse_unless(!values.flag("attention_bias", false), "attention_bias",
                       "a bias of the output projection is not supported; the biases of qwen2 are");
  values.refuse_unless(!values.flag("mlp_bias", false), "mlp_bias", "only false is supported");
  values.refuse_unless(values.get("quantization_config").is_null(), "quantization_config",
                       "quantized weights are not supported; F32, BF16 and F16 are");
  values.throw_if_any(source);
  return config.resolved(0);
}

}  // namespace filigree
