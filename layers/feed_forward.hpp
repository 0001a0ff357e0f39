// SwiGLU feed-forward, split by its inner width over the tensor axis.
#pragma once

#include "layers/linear.hpp"
#include "layers/model_config.hpp"

namespace filigree {

class FeedForward {
 public:
  FeedForward(const std::string& name, const ModelConfig& config, const Mesh& mesh,
              ParameterStore& store);
  // x: replicated on the tensor axis; the result is partial there.
  Variable forward(Tape& tape, const Variable& x) const;
  void weights_changed(WeightChange change, ExecutionContext& execution);

 private:
  ColumnParallelLinear gate_, up_;
  RowParallelLinear down_;
};

}  // namespace filigree
