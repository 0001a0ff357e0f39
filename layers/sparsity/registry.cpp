#include "layers/sparsity/registry.hpp"

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// Weights of a layer's gate.
std::int64_t adaptive_parameters(const ModelConfig& c) {
  const std::int64_t width = c.sparsity.gate_dim == 0 ? c.head_dim : c.sparsity.gate_dim;
  return c.heads * c.head_dim * (4 * width + (c.sparsity.head_gate ? 2 : 0));
}
std::int64_t seer_parameters(const ModelConfig& c) { return 3 * c.heads * c.head_dim * c.head_dim; }

struct Entry {
  const char* name;
  std::unique_ptr<AttentionMechanism> (*make)(const MechanismContext&);
  std::int64_t (*parameters)(const ModelConfig&) = nullptr;  // null: there is no gate
  bool end_to_end = false;                                   // the model's loss can teach the gate
};

constexpr Entry kMechanisms[] = {
    {"dense", make_dense_mechanism},
    {"adaptive", make_adaptive_mechanism, adaptive_parameters, true},
    {"seer", make_seer_mechanism, seer_parameters},
    {"sliding_window", make_sliding_window_mechanism},
    {"deepspeed_fixed", make_deepspeed_fixed_mechanism},
    {"deepspeed_variable", make_deepspeed_variable_mechanism},
    {"deepspeed_bigbird", make_deepspeed_bigbird_mechanism},
    {"deepspeed_longformer", make_deepspeed_longformer_mechanism},
    {"deepspeed_sliding", make_deepspeed_sliding_mechanism},
    {"s2_strided", make_s2_strided_mechanism},
};

const Entry* find(const std::string& name) {
  for (const Entry& entry : kMechanisms)
    if (name == entry.name) return &entry;
  return nullptr;
}

}  // namespace

std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kMechanisms) names.emplace_back(entry.name);
  return names;
}

std::string unknown_mechanism(const std::string& name) {
  const std::vector<std::string> names = mechanism_names();
  std::string allowed;
  for (const std::string& known : names) {
    if (known == name) return "";
    allowed += (allowed.empty() ? "" : ", ") + known;
  }
  const std::string nearest = nearest_name(name, names);
  return str("no such mechanism; allowed: ", allowed,
             nearest.empty() ? "" : "; did you mean '" + nearest + "'?");
}

bool mechanism_learns(const std::string& name) {
  const Entry* entry = find(name);
  return entry != nullptr && entry->parameters != nullptr;
}

std::vector<std::string> ways_to_learn(const std::string& name) {
  const Entry* entry = find(name);
  // Without a gate the key is ignored, so that one file serves all mechanisms; but a promise that
  // the model's loss reaches a gate is refused.
  if (entry == nullptr || entry->parameters == nullptr) return {"auto", "none", "distill", "both"};
  if (!entry->end_to_end) return {"auto", "distill", "none"};
  return {"auto", "distill", "end_to_end", "both", "none"};
}

std::int64_t mechanism_parameters(const ModelConfig& config) {
  return mechanism_learns(config.mechanism) ? find(config.mechanism)->parameters(config) : 0;
}

std::unique_ptr<AttentionMechanism> make_mechanism(const MechanismContext& context) {
  const std::string& name = context.config.mechanism;
  if (const Entry* entry = find(name)) return entry->make(context);
  throw UserError(str("model.mechanism = ", name, ": ", unknown_mechanism(name)));
}

AttentionPattern pattern_within_documents(const AttentionInput& input) {
  AttentionPattern pattern;
  pattern.document_begin_T = input.batch.document_begin_T;
  pattern.document_end_T = input.batch.document_end_T;
  return pattern;
}

std::optional<BlockLayout> AttentionMechanism::fixed_layout(std::int64_t) const {
  return std::nullopt;
}

std::unique_ptr<MechanismState> AttentionMechanism::make_state(ExecutionContext&,
                                                               std::int64_t) const {
  return nullptr;
}

}  // namespace filigree
