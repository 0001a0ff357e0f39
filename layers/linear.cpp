#include "layers/linear.hpp"

#include <cmath>

namespace filigree {

LinearOptions output_options(const ModelConfig& config, bool reparametrised) {
  const double branches = 2.0 * static_cast<double>(config.layers);
  return {.deviation = config.initial_deviation / std::sqrt(branches),
          .reparametrised = reparametrised};
}

Parameter make_parameter(const std::string& name, std::int64_t rows, std::int64_t columns,
                         Placement on_tensor, const Mesh& mesh) {
  Parameter parameter;
  parameter.name = name;
  parameter.global_shape = rows == 0 ? Shape{columns} : Shape{rows, columns};
  parameter.local_shape = parameter.global_shape;
  parameter.offset.assign(static_cast<std::size_t>(parameter.global_shape.rank()), 0);
  if (on_tensor.is_sharded()) {
    const ShardRange range = shard_range(parameter.global_shape[on_tensor.dim],
                                         mesh.size(Axis::tensor), mesh.coordinate(Axis::tensor));
    parameter.local_shape = parameter.local_shape.with(on_tensor.dim, range.size());
    parameter.offset[static_cast<std::size_t>(on_tensor.dim)] = range.begin;
  }
  parameter.placements =
      Placements().with(Axis::data, Placement::replicated()).with(Axis::tensor, on_tensor);
  return parameter;
}

ColumnParallelLinear::ColumnParallelLinear(const std::string& name, std::int64_t outputs,
                                           std::int64_t inputs, const LinearOptions& options,
                                           const Mesh& mesh, ParameterStore& store)
    : ColumnParallelLinear(by_units(name, outputs, 1, inputs, options, mesh, store)) {}

ColumnParallelLinear ColumnParallelLinear::by_units(const std::string& name, std::int64_t units,
                                                    std::int64_t unit, std::int64_t inputs,
                                                    const LinearOptions& options, const Mesh& mesh,
                                                    ParameterStore& store) {
  ColumnParallelLinear layer(store);
  const int ranks = mesh.size(Axis::tensor), rank = mesh.coordinate(Axis::tensor);
  const bool shared = units < ranks;
  FILIGREE_CHECK(shared ? ranks % units == 0 : unit == 1 || units % ranks == 0, name, ": ", units,
                 " units of ", unit, " rows on ", ranks, " tensor ranks");
  const Placement on_tensor = shared ? Placement::replicated() : Placement::sharded(0);
  Parameter weight = make_parameter(name + ".weight", units * unit, inputs, on_tensor, mesh);
  weight.initialisation.deviation = options.deviation;
  layer.first_row_ = shared ? rank / (ranks / units) * unit : 0;
  layer.rows_ = shared ? unit : weight.local_shape[0];
  layer.weight_ = store.add(std::move(weight));
  if (options.reparametrised) layer.reparam_.emplace(name, layer.weight_, mesh, store);
  if (options.bias) {
    Parameter bias = make_parameter(name + ".bias", 0, units * unit, on_tensor, mesh);
    bias.decays = false;
    layer.bias_ = store.add(std::move(bias));
  }
  return layer;
}

Variable ColumnParallelLinear::forward(Tape& tape, const Variable& x) const {
  const Variable& weight = store_->variable(weight_);
  const Variable bias = bias_ ? store_->variable(*bias_) : Variable();
  if (!reparam_) return linear_rows(tape, x, weight, first_row_, rows_, bias);
  const Variable y = reparam_->forward(tape, linear_rows(tape, x, weight, first_row_, rows_));
  return bias_ ? add_bias(tape, y, bias, first_row_) : y;
}

void ColumnParallelLinear::weights_changed(WeightChange change, ExecutionContext& execution) {
  if (reparam_) reparam_->weights_changed(change, execution);
}

RowParallelLinear::RowParallelLinear(const std::string& name, std::int64_t outputs,
                                     std::int64_t inputs, const LinearOptions& options,
                                     const Mesh& mesh, ParameterStore& store)
    : store_(&store) {
  FILIGREE_CHECK(!options.bias, name, ": a row-parallel layer has no bias");
  Parameter weight = make_parameter(name + ".weight", outputs, inputs, Placement::sharded(1), mesh);
  weight.initialisation.deviation = options.deviation;
  weight_ = store.add(std::move(weight));
  if (options.reparametrised) reparam_.emplace(name, weight_, mesh, store);
}

Variable RowParallelLinear::forward(Tape& tape, const Variable& x) const {
  const Variable y = linear(tape, x, store_->variable(weight_));
  return reparam_ ? reparam_->forward(tape, y) : y;
}

void RowParallelLinear::weights_changed(WeightChange change, ExecutionContext& execution) {
  if (reparam_) reparam_->weights_changed(change, execution);
}

}  // namespace filigree
