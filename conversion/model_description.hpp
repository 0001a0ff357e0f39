// What a model is, in the words of Hugging Face's config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "layers/model_config.hpp"
#include "runtime/core/dtype.hpp"

namespace filigree {

// The class of `transformers` that computes exactly what a model of ours computes.
enum class Architecture { llama, mistral, qwen2, qwen3, filigree };
std::string_view name_of(Architecture architecture);  // "llama": its model_type

// The stock class that fits, or `filigree`, the bundled one, where none does: a choice of blocks
// (other than a plain window, which Mistral has), an output gate, both a bias and a norm of queries
// and keys. sigmaReparam does not count: it is folded into the weights.
Architecture architecture_of(const ModelConfig& config);

struct SpecialIds {
  std::int64_t begin = 0, end = 0;
};

// config.json of a resolved configuration as `architecture`; dtype of the weights.
nlohmann::ordered_json describe_model(const ModelConfig& config, Architecture architecture,
                                      const SpecialIds& ids, DType dtype);
nlohmann::ordered_json describe_generation(const ModelConfig& config, const SpecialIds& ids);

// The other way, for Llama, Mistral, Qwen2 and Qwen3. `source` names the file in errors. Throws one
// UserError that names everything that Filigree does not compute (rope scaling, other activations,
// sliding windows of some layers, biases elsewhere ...), and what of it is supported.
ModelConfig model_from_description(const nlohmann::json& description, const std::string& source);

}  // namespace filigree
