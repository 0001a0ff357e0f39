#include "runtime/training/optimizer.hpp"

#include <cmath>
#include <limits>

#include "kernels/optimizer/adamw.hpp"
#include "runtime/training/ownership.hpp"

namespace filigree {
namespace {

void check(const OptimizerConfig& config) {
  const auto in_unit = [](double value) { return value >= 0.0 && value < 1.0; };
  if (!in_unit(config.beta1))
    throw UserError(str("optimizer.beta1 is ", config.beta1, "; allowed: 0 to below 1"));
  if (!in_unit(config.beta2))
    throw UserError(str("optimizer.beta2 is ", config.beta2, "; allowed: 0 to below 1"));
  if (!(config.eps > 0.0))
    throw UserError(str("optimizer.eps is ", config.eps, "; it must be above 0"));
  if (!(config.weight_decay >= 0.0))
    throw UserError(
        str("optimizer.weight_decay is ", config.weight_decay, "; it must be 0 or more"));
  if (!(config.clip_norm >= 0.0))
    throw UserError(
        str("optimizer.clip_norm is ", config.clip_norm, "; it must be 0 (off) or more"));
}

Tensor part(const Tensor& flat, const ParameterRun& run) {
  return flat.flat(run.begin, Shape{run.end - run.begin});
}

}  // namespace

std::vector<ParameterRun> parameter_runs(const ParameterStore& store,
                                         const std::function<bool(const Parameter&)>& flag) {
  std::vector<ParameterRun> runs;
  for (std::size_t i = 0; i < store.size(); ++i) {
    if (!store[i].trains) continue;
    const bool value = flag(store[i]), gate = store[i].gate;
    if (runs.empty() || runs.back().flag != value || runs.back().gate != gate)
      runs.push_back({store.begin(i), store.end(i), value, gate});
    runs.back().end = store.end(i);
  }
  return runs;
}

AdamWOptimizer::AdamWOptimizer(const OptimizerConfig& config, const ParameterStore& store,
                               ExecutionContext& context)
    : config_(config), store_(store) {
  check(config_);
  runs_ =
      parameter_runs(store, [&](const Parameter& p) { return p.decays || config_.decay_norms; });
  const Tensor& gradient = store.gradient();
  m_ = context.zeros(gradient.shape(), gradient.dtype(), MemoryUse::optimizer);
  v_ = context.zeros(gradient.shape(), gradient.dtype(), MemoryUse::optimizer);
}

void AdamWOptimizer::update(double learning_rate, const ModelAndGates& gradient_scale,
                            ExecutionContext& context) {
  ++updates_;
  const bool has_copy = !store_.compute().shares_storage_with(store_.master());
  for (const ParameterRun& run : runs_) {
    dispatch<AdamW>({.w_N = part(store_.master(), run),
                     .g_N = part(store_.gradient(), run),
                     .m_N = part(m_, run),
                     .v_N = part(v_, run),
                     .compute_N = has_copy ? part(store_.compute(), run) : Tensor(),
                     .rate = learning_rate,
                     .beta1 = config_.beta1,
                     .beta2 = config_.beta2,
                     .eps = config_.eps,
                     .decay = run.flag ? config_.weight_decay : 0.0,
                     .gradient_scale = run.gate ? gradient_scale.gates : gradient_scale.model,
                     .step = updates_},
                    context);
  }
}

ModelAndGates gradient_norms(const ParameterStore& store, const Mesh& mesh,
                             ExecutionContext& context) {
  // Sums of squares of what this rank answers for, of the model and of the gates, and of what
  // another rank does: the last only serves to notice a non-finite element wherever it appears.
  enum Sum : std::int64_t { kModel, kGates, kOthers, kSums };
  const Tensor sums = context.zeros(Shape{kSums}, DType::f64);
  const auto runs = parameter_runs(
      store, [&](const Parameter& parameter) { return counts_here(parameter, mesh); });
  for (const ParameterRun& run : runs)
    dispatch<SumSquares>({.x_N = part(store.gradient(), run),
                          .sum = sums.flat(!run.flag  ? kOthers
                                           : run.gate ? kGates
                                                      : kModel,
                                           Shape{1}),
                          .accumulate = true},
                         context);
  const Tensor on_host = context.download(sums);
  double* values = on_host.data<double>();
  const bool bad = !std::isfinite(values[kModel] + values[kGates] + values[kOthers]);
  if (bad) values[kModel] = values[kGates] = 0.0;
  values[kOthers] = bad ? 1.0 : 0.0;
  mesh.world().all_reduce(on_host);
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  if (values[kOthers] > 0.0) return {kNaN, kNaN};
  return {std::sqrt(values[kModel]), std::sqrt(values[kGates])};
}

double clip_scale(double norm, double clip_norm) {
  return clip_norm > 0.0 && norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace filigree
