#include "layers/vocab_parallel.hpp"

#include <cmath>

#include "kernels/loss/cross_entropy.hpp"

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
  Tensor lse_T,
      target_T;  // accumulation dtype: log sum exp over the whole vocabulary, the target's logit
};

// Combines the ranks' maxima and sums: with M = max over ranks, sum = sum_r sum_r exp(max_r - M).
template <class T>
TokenStatistics combine(const Tensor& max_T, const Tensor& sum_and_target_2T,
                        Communicator& tensor) {
  const std::int64_t count = max_T.numel();
  const Tensor own_max = max_T.clone();
  tensor.all_reduce(max_T, ReduceOp::max);
  const T* own = own_max.data<T>();
  const T* all = max_T.data<T>();
  T* sums = sum_and_target_2T.data<T>();
  for (std::int64_t t = 0; t < count; ++t) sums[t] *= std::exp(own[t] - all[t]);
  tensor.all_reduce(sum_and_target_2T);
  const TokenStatistics result{sum_and_target_2T.rows(0, 1).view({count}),
                               sum_and_target_2T.rows(1, 2).view({count})};
  T* lse = result.lse_T.data<T>();
  for (std::int64_t t = 0; t < count; ++t) lse[t] = all[t] + std::log(lse[t]);
  return result;
}

TokenStatistics token_statistics(ExecutionContext& execution, const Tensor& logits,
                                 const Tensor& targets, std::int64_t first_column,
                                 const Mesh& mesh) {
  const std::int64_t tokens = targets.numel();
  const DType dtype = accumulation_dtype(logits.dtype());
  const Tensor max = execution.empty({tokens}, dtype, MemoryUse::activations);
  const Tensor sum_and_target = execution.empty({2, tokens}, dtype, MemoryUse::activations);
  dispatch<CrossEntropyStatistics>({.logits_TV = logits,
                                    .targets_T = targets,
                                    .max_T = max,
                                    .sum_T = sum_and_target.rows(0, 1).view({tokens}),
                                    .target_T = sum_and_target.rows(1, 2).view({tokens}),
                                    .first_column = first_column},
                                   execution);
  Communicator& tensor = mesh.on(Axis::tensor);
  return dtype == DType::f64 ? combine<double>(max, sum_and_target, tensor)
                             : combine<float>(max, sum_and_target, tensor);
}

template <class T>
void write_loss(const TokenStatistics& statistics, const Tensor& targets, const Tensor& loss) {
  const T* lse = statistics.lse_T.data<T>();
  const T* target = statistics.target_T.data<T>();
  const auto* ids = targets.data<std::int32_t>();
  double sum = 0.0;
  for (std::int64_t t = 0, n = targets.numel(); t < n; ++t)
    if (ids[t] >= 0) sum += static_cast<double>(lse[t] - target[t]);
  *loss.data<T>() = static_cast<T>(sum);
}

template <class T>
void fill(const Tensor& tensor, const Tensor& scalar) {
  std::fill_n(tensor.data<T>(), tensor.numel(), *scalar.data<T>());
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
  const DType dtype = statistics.lse_T.dtype();
  const Tensor loss = execution.empty({}, dtype, MemoryUse::activations);
  if (dtype == DType::f64)
    write_loss<double>(statistics, targets, loss);
  else
    write_loss<float>(statistics, targets, loss);

  Variable output = tape.output(loss, loss_placements, std::array{logits});
  tape.record("cross_entropy", {logits}, {output},
              [logits_value, targets, first_column, lse = statistics.lse_T,
               placements = logits.placements().gradient()](const BackwardContext& backward) {
                const Tensor& seed = backward.output_gradient();
                const Tensor scale = backward.execution().empty(lse.shape(), lse.dtype());
                if (lse.dtype() == DType::f64)
                  fill<double>(scale, seed);
                else
                  fill<float>(scale, seed);
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
  const Tensor result = execution.empty(targets.shape(), statistics.lse_T.dtype());
  const auto subtract = [&](auto* out) {
    using T = std::remove_pointer_t<decltype(out)>;
    const T* lse = statistics.lse_T.data<T>();
    const T* target = statistics.target_T.data<T>();
    const auto* ids = targets.data<std::int32_t>();
    for (std::int64_t t = 0, n = targets.numel(); t < n; ++t)
      out[t] = ids[t] < 0 ? T(0) : target[t] - lse[t];
  };
  if (result.dtype() == DType::f64)
    subtract(result.data<double>());
  else
    subtract(result.data<float>());
  return result;
}

}  // namespace filigree
