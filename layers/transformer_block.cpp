#include "layers/transformer_block.hpp"

#include <array>

namespace filigree {
namespace {

std::string block_name(std::int64_t index) { return str("blocks.", index); }

}  // namespace

TransformerBlock::TransformerBlock(std::int64_t index, const ModelConfig& config, const Mesh& mesh,
                                   ParameterStore& store)
    : index_(index),
      dropout_(config.dropout),
      recompute_(config.recompute),
      mesh_(&mesh),
      norm1_(block_name(index) + ".norm1", config.width, config.norm_eps, mesh, store),
      attention_(block_name(index) + ".attention", index, config, mesh, store),
      norm2_(block_name(index) + ".norm2", config.width, config.norm_eps, mesh, store),
      feed_forward_(block_name(index) + ".feed_forward", config, mesh, store) {}

Variable apply_dropout(Tape& tape, const Variable& x, double rate, std::int64_t site,
                       const BatchInfo& batch) {
  if (!batch.training || rate == 0.0) return x;
  // 2^20 sites per step keep the streams of all steps apart.
  const Tensor stream = batch.step.data(tape.execution(), [site](std::int64_t step) {
    return Tensor::from<std::int64_t>({1}, std::array{step << 20 | site});
  });
  return dropout(tape, x, rate, batch.seed, stream, batch.first_token);
}

Variable TransformerBlock::attention_branch(Tape& tape, const Variable& x,
                                            const BatchInfo& batch) const {
  const Variable h = copy_to_tensor_parallel(tape, norm1_.forward(tape, x), *mesh_);
  const Variable branch =
      reduce_from_tensor_parallel(tape, attention_.forward(tape, h, batch), *mesh_);
  return apply_dropout(tape, branch, dropout_, 1 + 2 * index_, batch);
}

Variable TransformerBlock::feed_forward_branch(Tape& tape, const Variable& x,
                                               const BatchInfo& batch) const {
  const Variable h = copy_to_tensor_parallel(tape, norm2_.forward(tape, x), *mesh_);
  const Variable branch = reduce_from_tensor_parallel(tape, feed_forward_.forward(tape, h), *mesh_);
  return apply_dropout(tape, branch, dropout_, 2 + 2 * index_, batch);
}

void TransformerBlock::weights_changed(WeightChange change, ExecutionContext& execution) {
  attention_.weights_changed(change, execution);
  feed_forward_.weights_changed(change, execution);
}

Variable TransformerBlock::run(Tape& tape, const Variable& x, const BatchInfo& batch) const {
  const auto branch = [this, batch](Tape& inner, std::span<const Variable> inputs) {
    return attention_branch(inner, inputs[0], batch);
  };
  const Variable attended =
      recompute_ == "attention" ? recompute(tape, branch, {x}) : attention_branch(tape, x, batch);
  const Variable middle = add(tape, x, attended);
  return add(tape, middle, feed_forward_branch(tape, middle, batch));
}

Variable TransformerBlock::forward(Tape& tape, const Variable& x, const BatchInfo& batch) const {
  ErrorContext frame(str("layer ", index_));
  if (recompute_ != "block") return run(tape, x, batch);
  return recompute(tape,
                   [this, batch](Tape& inner, std::span<const Variable> inputs) {
                     return run(inner, inputs[0], batch);
                   },
                   {x});
}

Variable TransformerBlock::decode(Tape& tape, const Variable& x, const BatchInfo& batch,
                                  DecodeCache& cache) const {
  ErrorContext frame(str("layer ", index_));
  const Variable h = copy_to_tensor_parallel(tape, norm1_.forward(tape, x), *mesh_);
  const Variable attended = reduce_from_tensor_parallel(
      tape, attention_.decode(tape, h, batch, cache, static_cast<std::size_t>(index_)), *mesh_);
  const Variable middle = add(tape, x, attended);
  return add(tape, middle, feed_forward_branch(tape, middle, batch));
}

}  // namespace filigree
