// The seam between the attention layer and what decides which blocks of the attention map are
// computed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/attention/attention.hpp"
#include "layers/batch_info.hpp"
#include "layers/model_config.hpp"
#include "layers/parameter.hpp"
#include "layers/sparsity/block_layout.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// How strictly a causal model stays causal under the mechanism.
enum class Causality {
  strict,  // no output depends on a later token, not even through the choice of blocks
  block,   // a choice may see later tokens of the same block
};

// How the choice learns.
enum class GradientKind {
  none,        // nothing to learn
  distill,     // an auxiliary loss
  end_to_end,  // the model's loss reaches the gate
};

struct MechanismTraits {
  Causality causality = Causality::strict;
  GradientKind gradient = GradientKind::none;
  bool decodes = true;  // can generate token by token
};

// What a mechanism is made with.
struct MechanismContext {
  std::string name;  // of its parameters: "blocks.3.attention"
  std::int64_t layer = 0;
  const ModelConfig& config;
  const Mesh& mesh;
  ParameterStore& store;  // both outlive the mechanism
};

// What a mechanism keeps of one sequence between decoding steps, beside keys and values.
struct MechanismState {
  virtual ~MechanismState() = default;
};

// What a mechanism sees: the block's input and the projected heads of this rank.
struct AttentionInput {
  Variable x_TD;          // replicated on the tensor axis
  Variable q_THK;         // sharded(1) on the tensor axis
  Variable k_TGK, v_TGK;  // all keys so far; at generation these come from the cache
  Variable q_raw_THK;     // before position embedding
  Variable k_raw_TGK;     // the same; at generation of the new tokens only
  AttentionShape shape;   // with this rank's numbers of heads
  const BatchInfo& batch;
  MechanismState* state = nullptr;  // when decoding: what make_state() made
};

// What every pattern starts from: the documents of the batch.
AttentionPattern pattern_within_documents(const AttentionInput& input);

class AttentionMechanism {
 public:
  virtual ~AttentionMechanism() = default;
  virtual std::string_view name() const = 0;
  virtual MechanismTraits traits() const = 0;
  // The attended values [T, H*K], placed as q.
  virtual Variable attend(Tape& tape, const AttentionInput& input) const = 0;
  // What this rank's heads read of a sequence of `blocks` blocks, where that depends on nothing but
  // its length.
  virtual std::optional<BlockLayout> fixed_layout(std::int64_t blocks) const;
  // For one sequence of at most `capacity` tokens; null when keys and values are all it needs.
  virtual std::unique_ptr<MechanismState> make_state(ExecutionContext& execution,
                                                     std::int64_t capacity) const;
};

}  // namespace filigree
