// The published fixed layouts as mechanisms: rows and columns are blocks of key_block tokens, every
// head's layout follows from its global number, and no layout depends on the length of the sequence
// (block_layout.hpp), so that decoding, one row at a time, reads what training read.
#include <algorithm>

#include "layers/functional/functional.hpp"
#include "layers/sparsity/block_layout.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

using LayoutFunction = BlockLayout (*)(const SparsityConfig&, const LayoutShape&);

std::int64_t local_or(const SparsityConfig& config, std::int64_t published) {
  return config.local_blocks == 0 ? published : config.local_blocks;
}

std::vector<std::int64_t> first_blocks(std::int64_t count) {
  std::vector<std::int64_t> blocks;
  for (std::int64_t i = 0; i < count; ++i) blocks.push_back(i);
  return blocks;
}

BlockLayout fixed(const SparsityConfig& c, const LayoutShape& shape) {
  return fixed_layout(
      {.local = local_or(c, 4), .global = c.global_blocks, .patterns = c.head_patterns}, shape);
}
BlockLayout variable(const SparsityConfig& c, const LayoutShape& shape) {
  return variable_layout({.windows = {local_or(c, 4)}, .global = first_blocks(c.global_blocks)},
                         shape);
}
BlockLayout bigbird(const SparsityConfig& c, const LayoutShape& shape) {
  return bigbird_layout(
      {.sliding = local_or(c, 3), .global = c.global_blocks, .random = c.random_blocks}, shape);
}
BlockLayout longformer(const SparsityConfig& c, const LayoutShape& shape) {
  return longformer_layout({.sliding = local_or(c, 3), .global = first_blocks(c.global_blocks)},
                           shape);
}
BlockLayout sliding(const SparsityConfig& c, const LayoutShape& shape) {
  return sliding_layout(local_or(c, 3), shape);
}
BlockLayout strided(const SparsityConfig& c, const LayoutShape& shape) {
  return strided_layout({.local = local_or(c, 4), .stride = c.stride_blocks}, shape);
}

// The lists of the last decoding step, which most steps use again.
struct KeptLists final : MechanismState {
  std::int64_t first_row = -1, blocks = -1;
  BlockLists lists;
};

class FixedLayoutMechanism final : public AttentionMechanism {
 public:
  FixedLayoutMechanism(std::string_view name, LayoutFunction layout,
                       const MechanismContext& context)
      : name_(name), layout_(layout), layer_(context.layer), config_(context.config.sparsity) {
    const std::int64_t heads = context.config.heads / context.mesh.size(Axis::tensor);
    first_head_ = heads * context.mesh.coordinate(Axis::tensor);
    layout_(config_, {.heads = 1, .blocks = 1});  // settings that cannot be are refused here
  }
  std::string_view name() const override { return name_; }
  MechanismTraits traits() const override { return {}; }

  Variable attend(Tape& tape, const AttentionInput& input) const override {
    AttentionPattern pattern;
    pattern.window = config_.window;
    pattern.sinks = config_.sinks;
    pattern.lists = lists(input);
    if (input.batch.statistics) observe(tape.execution(), input, pattern, config_, layer_);
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
  }

  std::unique_ptr<MechanismState> make_state(ExecutionContext&, std::int64_t) const override {
    return std::make_unique<KeptLists>();
  }

 private:
  BlockLists lists(const AttentionInput& input) const {
    const AttentionShape& shape = input.shape;
    const std::int64_t blocks = key_blocks(shape, config_.key_block);
    const std::int64_t first_row = shape.query_offset / config_.key_block;
    auto* const kept = static_cast<KeptLists*>(input.state);
    if (kept && kept->first_row == first_row && kept->blocks == blocks) return kept->lists;
    const BlockLayout layout = layout_(config_, {.heads = shape.query_heads,
                                                 .first_head = first_head_,
                                                 .blocks = blocks,
                                                 .causal = shape.causal});
    const BlockLists made = lists_of(layout, shape.batch, config_.key_block, first_row);
    if (kept) {
      kept->first_row = first_row;
      kept->blocks = blocks;
      kept->lists = made;
    }
    return made;
  }

  std::string_view name_;
  LayoutFunction layout_;
  std::int64_t layer_, first_head_;
  SparsityConfig config_;
};

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_fixed_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("deepspeed_fixed", fixed, c);
}
std::unique_ptr<AttentionMechanism> make_deepspeed_variable_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("deepspeed_variable", variable, c);
}
std::unique_ptr<AttentionMechanism> make_deepspeed_bigbird_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("deepspeed_bigbird", bigbird, c);
}
std::unique_ptr<AttentionMechanism> make_deepspeed_longformer_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("deepspeed_longformer", longformer, c);
}
std::unique_ptr<AttentionMechanism> make_deepspeed_sliding_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("deepspeed_sliding", sliding, c);
}
std::unique_ptr<AttentionMechanism> make_s2_strided_mechanism(const MechanismContext& c) {
  return std::make_unique<FixedLayoutMechanism>("s2_strided", strided, c);
}

}  // namespace filigree
