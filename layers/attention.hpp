// Multi-head attention with grouped key/value heads, split by heads over the tensor axis.
#pragma once

#include <memory>
#include <optional>

#include "layers/batch_info.hpp"
#include "layers/decode_cache.hpp"
#include "layers/linear.hpp"
#include "layers/model_config.hpp"
#include "layers/rms_norm.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

class Attention {
 public:
  // `layer`: number of the block.
  Attention(const std::string& name, std::int64_t layer, const ModelConfig& config,
            const Mesh& mesh, ParameterStore& store);

  // x: replicated on the tensor axis; the result is partial there.
  Variable forward(Tape& tape, const Variable& x, const BatchInfo& batch) const;
  // The same for `batch.length` new tokens of one sequence whose earlier keys and values are in
  // `cache`; theirs are appended (the caller advances cache.length after all layers).
  Variable decode(Tape& tape, const Variable& x, const BatchInfo& batch, DecodeCache& cache,
                  std::size_t layer) const;
  void weights_changed(WeightChange change, ExecutionContext& execution);

 private:
  struct Heads {
    Variable q_raw, k_raw, q, k, v;  // raw: before position embedding, after the norm of heads
  };
  Heads project(Tape& tape, const Variable& x, const BatchInfo& batch) const;
  AttentionShape shape(const BatchInfo& batch) const;
  // The output gate, where there is one, and the output projection.
  Variable finish(Tape& tape, const Variable& attended, const Variable& x) const;

  std::int64_t head_dim_;
  RotaryFrequencies rotary_;
  ColumnParallelLinear query_, key_, value_;
  RowParallelLinear output_;
  std::optional<HeadRmsNorm> query_norm_, key_norm_;
  std::optional<ColumnParallelLinear> gate_;
  std::unique_ptr<AttentionMechanism> mechanism_;
};

}  // namespace filigree
