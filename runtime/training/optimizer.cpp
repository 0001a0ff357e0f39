#include "runtime/training/optimizer.hpp"

#include <array>

#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"
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

StepTotals::StepTotals(ExecutionContext& context)
    : all_(context.zeros({6}, DType::f64, MemoryUse::optimizer)) {}

StepTotals::Values StepTotals::read(const ExecutionContext& context) const {
  const Tensor host = context.download(all_);
  const auto values = host.span<double>();
  return {.loss = values[0], .model_norm = values[4], .gate_norm = values[5]};
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
  updates_ = context.zeros({1}, DType::i64, MemoryUse::optimizer);
}

std::int64_t AdamWOptimizer::updates(const ExecutionContext& context) const {
  return *context.download(updates_).data<std::int64_t>();
}

void AdamWOptimizer::set_updates(std::int64_t updates, const ExecutionContext& context) {
  context.copy(Tensor::from<std::int64_t>({1}, std::array{updates}), updates_);
}

void AdamWOptimizer::update(const Tensor& learning_rate, const StepTotals& totals,
                            ExecutionContext& context) {
  const Tensor factors = context.empty({2, kUpdateFactors}, DType::f64);
  dispatch<UpdateFactors>({.loss = totals.loss(),
                           .squares = totals.squares(),
                           .rate = learning_rate,
                           .updates = updates_,
                           .norms = totals.norms(),
                           .factors = factors,
                           .clip_norm = config_.clip_norm,
                           .beta1 = config_.beta1,
                           .beta2 = config_.beta2},
                          context);
  const bool has_copy = !store_.compute().shares_storage_with(store_.master());
  for (const ParameterRun& run : runs_) {
    dispatch<AdamW>({.w_N = part(store_.master(), run),
                     .g_N = part(store_.gradient(), run),
                     .m_N = part(m_, run),
                     .v_N = part(v_, run),
                     .compute_N = has_copy ? part(store_.compute(), run) : Tensor(),
                     .factors = factors.rows(run.gate, run.gate + 1),
                     .beta1 = config_.beta1,
                     .beta2 = config_.beta2,
                     .eps = config_.eps,
                     .decay = run.flag ? config_.weight_decay : 0.0},
                    context);
  }
}

void add_gradient_squares(const ParameterStore& store, const Mesh& mesh, const Tensor& squares,
                          ExecutionContext& context) {
  // What another rank answers for only serves to notice a non-finite element wherever it appears.
  enum Sum : std::int64_t { kModel, kGates, kOthers };
  const auto runs = parameter_runs(
      store, [&](const Parameter& parameter) { return counts_here(parameter, mesh); });
  for (const ParameterRun& run : runs) {
    const Sum sum = !run.flag ? kOthers : run.gate ? kGates : kModel;
    dispatch<SumSquares>(
        {.x_N = part(store.gradient(), run), .sum = squares.rows(sum, sum + 1), .accumulate = true},
        context);
  }
  mesh.world().all_reduce(squares);
}

}  // namespace filigree
