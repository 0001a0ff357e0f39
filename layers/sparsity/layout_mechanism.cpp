#include "layers/sparsity/layout_mechanism.hpp"

#include <numeric>

#include "layers/functional/functional.hpp"
#include "layers/sparsity/observe.hpp"

namespace filigree {
namespace {

// The lists of the last decoding step, which most steps use again.
struct KeptLists final : MechanismState {
  std::int64_t first_row = -1, blocks = -1;
  BlockLists lists;
};

BlockLists uploaded(BlockLists lists, const ExecutionContext& execution) {
  for (Tensor* const tensor : {&lists.counts_BHN, &lists.indices_BHNJ, &lists.transposed_counts_BHM,
                               &lists.transposed_indices_BHMN})
    *tensor = execution.upload(*tensor, MemoryUse::activations);
  return lists;
}

class LayoutMechanism final : public AttentionMechanism {
 public:
  LayoutMechanism(std::string_view name, LayoutFunction layout, const MechanismContext& context)
      : name_(name), layout_(layout), layer_(context.layer), config_(context.config.sparsity) {
    heads_ = context.config.heads / context.mesh.size(Axis::tensor);
    first_head_ = heads_ * context.mesh.coordinate(Axis::tensor);
    layout_(config_, {.heads = 1, .blocks = 1});  // settings that cannot be are refused here
  }
  std::string_view name() const override { return name_; }
  MechanismTraits traits() const override { return {}; }

  Variable attend(Tape& tape, const AttentionInput& input) const override {
    AttentionPattern pattern = pattern_within_documents(input);
    pattern.window = config_.window;
    pattern.sinks = config_.sinks;
    pattern.lists = lists(input, tape.execution());
    if (input.batch.statistics) observe(tape.execution(), input, pattern, config_, layer_);
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
  }

  std::optional<BlockLayout> fixed_layout(std::int64_t blocks) const override {
    return layout_(config_, {.heads = heads_, .first_head = first_head_, .blocks = blocks});
  }

  std::unique_ptr<MechanismState> make_state(ExecutionContext&, std::int64_t) const override {
    return std::make_unique<KeptLists>();
  }

 private:
  BlockLists lists(const AttentionInput& input, const ExecutionContext& execution) const {
    const AttentionShape& shape = input.shape;
    const std::int64_t blocks = key_blocks(shape, config_.key_block);
    const std::int64_t first_row = shape.query_offset / config_.key_block;
    auto* const kept = static_cast<KeptLists*>(input.state);
    if (kept && kept->first_row == first_row && kept->blocks == blocks) return kept->lists;
    FILIGREE_CHECK(shape.causal && shape.query_heads == heads_, "layouts are those of a decoder");
    const BlockLists made = uploaded(
        lists_of(*fixed_layout(blocks), shape.batch, config_.key_block, first_row), execution);
    if (kept) {
      kept->first_row = first_row;
      kept->blocks = blocks;
      kept->lists = made;
    }
    return made;
  }

  std::string_view name_;
  LayoutFunction layout_;
  std::int64_t layer_, heads_ = 0, first_head_ = 0;
  SparsityConfig config_;
};

class WindowMechanism final : public AttentionMechanism {
 public:
  WindowMechanism(std::string_view name, std::int64_t window, std::int64_t sinks,
                  const MechanismContext& context)
      : name_(name),
        window_(window),
        sinks_(sinks),
        layer_(context.layer),
        config_(context.config.sparsity) {}
  std::string_view name() const override { return name_; }
  MechanismTraits traits() const override { return {}; }

  Variable attend(Tape& tape, const AttentionInput& input) const override {
    AttentionPattern pattern = pattern_within_documents(input);
    pattern.window = window_;
    pattern.sinks = sinks_;
    if (input.batch.statistics) observe(tape.execution(), input, pattern, config_, layer_);
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
  }

 private:
  std::string_view name_;
  std::int64_t window_, sinks_, layer_;
  SparsityConfig config_;
};

}  // namespace

std::unique_ptr<AttentionMechanism> make_window_mechanism(std::string_view name,
                                                          std::int64_t window, std::int64_t sinks,
                                                          const MechanismContext& context) {
  return std::make_unique<WindowMechanism>(name, window, sinks, context);
}

std::unique_ptr<AttentionMechanism> make_layout_mechanism(std::string_view name,
                                                          LayoutFunction layout,
                                                          const MechanismContext& context) {
  return std::make_unique<LayoutMechanism>(name, layout, context);
}

std::vector<std::int64_t> first_blocks(std::int64_t count) {
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(count));
  std::iota(blocks.begin(), blocks.end(), std::int64_t{0});
  return blocks;
}

}  // namespace filigree
