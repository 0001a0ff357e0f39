// The seam between the attention layer and what decides which blocks of the attention map are
// computed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/attention/attention.hpp"
#include "layers/batch_info.hpp"
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

// What a mechanism sees: the block's input and the projected heads of this rank, after position
// embedding.
struct AttentionInput {
  Variable x_TD;          // replicated on the tensor axis
  Variable q_THK;         // sharded(1) on the tensor axis
  Variable k_TGK, v_TGK;  // all keys so far; at generation these come from the cache
  AttentionShape shape;   // with this rank's numbers of heads
};

class AttentionMechanism {
 public:
  virtual ~AttentionMechanism() = default;
  virtual std::string_view name() const = 0;
  virtual MechanismTraits traits() const = 0;
  // The attended values [T, H*K], placed as q.
  virtual Variable attend(Tape& tape, const AttentionInput& input) const = 0;
};

}  // namespace filigree
