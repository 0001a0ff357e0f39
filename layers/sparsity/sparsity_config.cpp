#include "layers/sparsity/sparsity_config.hpp"

#include <algorithm>

#include "layers/sparsity/registry.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

class Lines {
 public:
  template <class Value, class... Reason>
  void require(bool fits, const char* option, const Value& value, const Reason&... reason) {
    if (!fits) lines.push_back(str("sparsity.", option, " = ", value, ": ", reason...));
  }
  void require_at_least(std::int64_t least, const char* option, std::int64_t value) {
    require(value >= least, option, value, "must be at least ", least);
  }
  void require_share(const char* option, double value) {
    require(value >= 0.0 && value <= 1.0, option, value, "must lie in 0..1");
  }
  void require_one_of(const std::vector<std::string>& allowed, const char* option,
                      const std::string& value, const std::string& of = "") {
    std::string names;
    for (const std::string& name : allowed) {
      if (value == name) return;
      names += (names.empty() ? "" : ", ") + name;
    }
    require(false, option, value, "allowed", of, ": ", names);
  }

  std::vector<std::string> lines;
};

void check_choice(const SparsityConfig& c, Lines& lines) {
  lines.require(c.density > 0.0 && c.density <= 1.0, "density", c.density,
                "must be above 0 and at most 1, the share of the allowed pairs that is read");
  lines.require_one_of({"density", "top_k", "threshold"}, "selection", c.selection);
  lines.require(c.selection != "top_k" || c.top_k >= 1, "top_k", c.top_k,
                "selection top_k needs at least 1 block per group");
  lines.require_share("threshold", c.threshold);
  lines.require_share("dense_heads", c.dense_heads);
  lines.require_share("head_threshold", c.head_threshold);
  lines.require(!c.head_gate || (c.window == 0 && c.sinks == 0), "head_gate", "true",
                "a skipped head reads nothing, so sparsity.window and sparsity.sinks must be 0");
}

void check_learning(const SparsityConfig& c, const std::string& mechanism, Lines& lines) {
  lines.require_one_of(ways_to_learn(mechanism), "learn", c.learn,
                       " for model.mechanism = " + mechanism);
  lines.require(c.gate_dim >= 0 && c.gate_dim % 2 == 0, "gate_dim", c.gate_dim,
                "must be even for rotary embeddings; 0 takes the head's width");
  lines.require(c.distill_weight >= 0.0, "distill_weight", c.distill_weight,
                "must not be negative");
  lines.require(c.distill_share > 0.0 && c.distill_share <= 1.0, "distill_share", c.distill_share,
                "must be above 0 and at most 1");
  lines.require_at_least(0, "warmup_steps", c.warmup_steps);
  lines.require_at_least(0, "ramp_steps", c.ramp_steps);
}

void check_blocks(const SparsityConfig& c, std::int64_t sequence, Lines& lines) {
  lines.require(c.key_block >= 16 && c.key_block <= 128, "key_block", c.key_block,
                "must lie in 16..128 tokens");
  lines.require(c.key_block <= sequence, "key_block", c.key_block,
                "is longer than model.sequence = ", sequence);
  lines.require_at_least(0, "local_blocks", c.local_blocks);
  lines.require_at_least(0, "global_blocks", c.global_blocks);
  lines.require_at_least(0, "random_blocks", c.random_blocks);
  lines.require_at_least(1, "stride_blocks", c.stride_blocks);
  lines.require_at_least(1, "head_patterns", c.head_patterns);
}

}  // namespace

std::vector<std::string> SparsityConfig::problems(const std::string& mechanism,
                                                  std::int64_t sequence) const {
  if (mechanism == "dense") return {};
  Lines lines;
  check_choice(*this, lines);
  check_learning(*this, mechanism, lines);
  check_blocks(*this, sequence, lines);
  lines.require(query_group >= 1 && query_group <= 128, "query_group", query_group,
                "must lie in 1..128 tokens");
  lines.require_at_least(0, "window", window);
  lines.require_at_least(0, "sinks", sinks);
  lines.require(mechanism != "sliding_window" || window >= 1, "window", window,
                "sliding_window needs a window of at least 1 token");
  lines.require(!head_gate || mechanism == "adaptive", "head_gate", "true",
                "model.mechanism = ", mechanism, " has no head gate; adaptive has");
  lines.require(mechanism != "seer" || gate_dim == 0, "gate_dim", gate_dim,
                "seer compares pooled queries as they are, so its gate has the head's width; "
                "leave it 0");
  return lines.lines;
}

}  // namespace filigree
