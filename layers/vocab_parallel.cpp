#include "layers/vocab_parallel.hpp"

#include "kernels/elementwise/fill.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/loss/token_losses.hpp"

namespace filigree {

VocabParallelEmbedding::VocabParallelEmbedding(const std::string& name, std::int64_t vocabulary,
                                               std::int64_t width, double deviation,
                                               const Mesh& mesh, ParameterStore& store)
    : mesh_(&mesh), store_(&store) {
  Parameter weight =
      make_parameter(name + ".weight", vocabulary, width, Placement::sharded(0), mesh);
  weight.initialisation.deviation = deviation;
  weight.decays = false;
  weight_ = store.add(std::move(weight));
}

Variable VocabParallelEmbedding::lookup(Tape& tape, const Variable& ids) const {
  return reduce_from_tensor_parallel(
      tape, embedding(tape, ids, store_->variable(weight_), first_row()), *mesh_);
}

Variable VocabParallelEmbedding::logits(Tape& tape, const Variable& x) const {
  return linear(tape, x, store_->variable(weight_));
}

std::int64_t VocabParallelEmbedding::first_row() const { return (*store_)[weight_].offset[0]; }
std::int64_t VocabParallelEmbedding::local_rows() const {
  return (*store_)[weight_].local_shape[0];
}

namespace {

struct TokenStatistics {
  Tensor max_T, sum_and_target_2T;  // accumulation dtype, over the whole vocabulary
};

TokenStatistics token_statistics(ExecutionContext& execution, const Tensor& logits,
                                 const Tensor& targets, std::int64_t first_column,
                                 const Mesh& mesh) {
  const std::int64_t tokens = targets.numel();
  const DType dtype = accumulation_dtype(logits.dtype());
  const Tensor max = execution.empty({tokens}, dtype, MemoryUse::activations);
  const Tensor sum_and_target = execution.empty({2, tokens}, dtype, MemoryUse::activations);
  const Tensor sum = sum_and_target.rows(0, 1).view({tokens});
  dispatch<CrossEntropyStatistics>({.logits_TV = logits,
                                    .targets_T = targets,
                                    .max_T = max,
                                    .sum_T = sum,
                                    .target_T = sum_and_target.rows(1, 2).view({tokens}),
                                    .first_column = first_column},
                                   execution);
  Communicator& tensor = mesh.on(Axis::tensor);
  if (tensor.size() == 1) return {max, sum_and_target};
  const Tensor own_max = execution.clone(max);
  tensor.all_reduce(max, ReduceOp::max);
  dispatch<RescaleSums>({.own_max_T = own_max, .max_T = max, .sum_T = sum}, execution);
  tensor.all_reduce(sum_and_target);
  return {max, sum_and_target};
}

struct Losses {
  Tensor lse_T, log_p_T;
};

Losses token_losses(ExecutionContext& execution, const TokenStatistics& statistics,
                    const Tensor& targets, const Tensor& loss) {
  const std::int64_t tokens = targets.numel();
  const DType dtype = statistics.max_T.dtype();
  const Losses result{execution.empty({tokens}, dtype, MemoryUse::activations),
                      execution.empty(targets.shape(), dtype)};
  dispatch<TokenLosses>({.max_T = statistics.max_T,
                         .sum_T = statistics.sum_and_target_2T.rows(0, 1).view({tokens}),
                         .target_T = statistics.sum_and_target_2T.rows(1, 2).view({tokens}),
                         .ids_T = targets,
                         .lse_T = result.lse_T,
                         .log_p_T = result.log_p_T,
                         .loss = loss},
                        execution);
  return result;
}

}  // namespace

Variable vocab_parallel_cross_entropy(Tape& tape, const Variable& logits, const Tensor& targets,
                                      std::int64_t first_column, const Mesh& mesh) {
  ExecutionContext& execution = tape.execution();
  const Placement on_tensor = logits.placements()[Axis::tensor];
  FILIGREE_CHECK(on_tensor.is_sharded(1), "cross entropy: logits are ", on_tensor,
                 " on the tensor axis");
  Placements loss_placements;
  for (const Axis axis : {Axis::pipeline, Axis::data, Axis::context}) {
    const Placement placement = logits.placements()[axis];
    FILIGREE_CHECK(placement.is_invariant() || placement.is_sharded(0),
                   "cross entropy: logits are ", placement, " on the ", name_of(axis), " axis");
    if (placement.is_sharded()) loss_placements = loss_placements.with(axis, Placement::partial());
  }
  const Tensor logits_value = logits.value();
  const TokenStatistics statistics =
      token_statistics(execution, logits_value, targets, first_column, mesh);
  const Tensor loss = execution.empty({}, statistics.max_T.dtype(), MemoryUse::activations);
  const Tensor lse = token_losses(execution, statistics, targets, loss).lse_T;

  Variable output = tape.output(loss, loss_placements, std::array{logits});
  tape.record("cross_entropy", {logits}, {output},
              [logits_value, targets, first_column, lse,
               placements = logits.placements().gradient()](const BackwardContext& backward) {
                const Tensor& seed = backward.output_gradient();
                const Tensor scale = backward.execution().empty(lse.shape(), lse.dtype());
                dispatch<Fill>({.value = seed, .y = scale}, backward.execution());
                dispatch<CrossEntropyGradient>({.logits_TV = logits_value,
                                                .targets_T = targets,
                                                .lse_T = lse,
                                                .scale_T = scale,
                                                .first_column = first_column},
                                               backward.execution());
                backward.accumulate(0, logits_value, placements);
              });
  return output;
}

Tensor vocab_parallel_log_probabilities(ExecutionContext& execution, const Tensor& logits,
                                        const Tensor& targets, std::int64_t first_column,
                                        const Mesh& mesh) {
  const TokenStatistics statistics =
      token_statistics(execution, logits, targets, first_column, mesh);
  return token_losses(execution, statistics, targets, {}).log_p_T;
}

}  // namespace filigree
