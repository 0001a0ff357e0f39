#include "layers/parameter.hpp"

#include "kernels/elementwise/elementwise.hpp"
#include "kernels/random/normal_fill.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kAlignment = 16;  // elements: a cache line of f32

void initialise(const Parameter& parameter, const Tensor& values, std::uint64_t seed,
                ExecutionContext& context) {
  const Shape& global = parameter.global_shape;
  const bool matrix = global.rank() == 2;
  FILIGREE_CHECK(matrix || global.rank() == 1, parameter.name, " has rank ", global.rank());
  const Shape local = parameter.local_shape;
  dispatch<NormalFill>({.x_RC = values.view({matrix ? local[0] : 1, local[-1]}),
                        .mean = parameter.initialisation.mean,
                        .deviation = parameter.initialisation.deviation,
                        .seed = seed,
                        .stream = hash_text(parameter.name),
                        .first_row = matrix ? parameter.offset[0] : 0,
                        .first_column = parameter.offset.back(),
                        .global_columns = global[-1]},
                       context);
}

}  // namespace

std::size_t ParameterStore::add(Parameter parameter) {
  FILIGREE_CHECK(!master_.defined(), "parameter ", parameter.name, " added after materialise()");
  for (const Parameter& other : parameters_)
    FILIGREE_CHECK(other.name != parameter.name, "two parameters are named ", parameter.name);
  parameters_.push_back(std::move(parameter));
  return parameters_.size() - 1;
}

void ParameterStore::freeze(const std::function<bool(const Parameter&)>& which) {
  FILIGREE_CHECK(!master_.defined(), "parameters are frozen after materialise()");
  for (Parameter& parameter : parameters_)
    if (which(parameter)) parameter.trains = false;
}

std::int64_t ParameterStore::lay_out(bool trains, std::int64_t first) {
  for (std::size_t i = 0; i < size(); ++i) {
    if (parameters_[i].trains != trains) continue;
    begins_[i] = first;
    first += (parameters_[i].local_shape.numel() + kAlignment - 1) / kAlignment * kAlignment;
  }
  return first;
}

void ParameterStore::bind(std::size_t i) {
  Parameter& parameter = parameters_[i];
  const Tensor value = slice(compute_, i);
  parameter.variable =
      parameter.trains
          ? Variable::parameter(parameter.name, value, slice(gradient_, i), parameter.placements)
          : Variable(value, parameter.placements);
}

void ParameterStore::materialise(DType compute_dtype, std::uint64_t seed,
                                 ExecutionContext& context) {
  FILIGREE_CHECK(!master_.defined(), "parameters are materialised twice");
  begins_.resize(size());
  const std::int64_t trained = lay_out(true, 0), total = lay_out(false, trained);
  const DType master_dtype = accumulation_dtype(compute_dtype);
  master_ = context.zeros({total}, master_dtype, MemoryUse::parameters);
  gradient_ = context.zeros({trained}, master_dtype, MemoryUse::gradients);
  compute_ = compute_dtype == master_dtype
                 ? master_
                 : context.zeros({total}, compute_dtype, MemoryUse::parameters);
  for (std::size_t i = 0; i < size(); ++i) {
    initialise(parameters_[i], master_of(i), seed, context);
    bind(i);
  }
  refresh_compute(context);
}

std::vector<Variable> ParameterStore::trained_variables() const {
  std::vector<Variable> result;
  for (const Parameter& parameter : parameters_)
    if (parameter.trains) result.push_back(parameter.variable);
  return result;
}

Tensor ParameterStore::slice(const Tensor& flat, std::size_t i) const {
  return flat.flat(begins_[i], parameters_[i].local_shape);
}

void ParameterStore::clear_gradients() const {
  for (const Parameter& parameter : parameters_) parameter.variable.clear_gradient();
}

void ParameterStore::refresh_compute(ExecutionContext& context) const {
  if (!compute_.shares_storage_with(master_))
    dispatch<Scale>({.x = master_, .y = compute_}, context);
}

}  // namespace filigree
