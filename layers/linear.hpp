// Linear layers split over the tensor axis (Shoeybi et al. 2019, "Megatron-LM", section 3).
#pragma once

#include <optional>
#include <string>

#include "layers/functional/functional.hpp"
#include "layers/model_config.hpp"
#include "layers/parameter.hpp"
#include "layers/sigma_reparam.hpp"

namespace filigree {

struct LinearOptions {
  double deviation = 0.0;       // of the initial weight
  bool reparametrised = false;  // by sigmaReparam
  bool bias = false;            // column-parallel only; starts at zero, is not decayed
};

// y = x W^T + b with W [outputs, inputs] and b [outputs] split by outputs. x: replicated on the
// tensor axis; y: sharded(1).
class ColumnParallelLinear {
 public:
  ColumnParallelLinear(const std::string& name, std::int64_t outputs, std::int64_t inputs,
                       const LinearOptions& options, const Mesh& mesh, ParameterStore& store);
  // Outputs split in units of `unit` consecutive rows (heads), `units` of them. When there are
  // fewer units than tensor ranks, every rank holds the whole weight and computes the unit it
  // shares with its neighbours.
  static ColumnParallelLinear by_units(const std::string& name, std::int64_t units,
                                       std::int64_t unit, std::int64_t inputs,
                                       const LinearOptions& options, const Mesh& mesh,
                                       ParameterStore& store);

  Variable forward(Tape& tape, const Variable& x) const;
  void weights_changed(WeightChange change, ExecutionContext& execution);
  std::int64_t local_outputs() const { return rows_; }

 private:
  ColumnParallelLinear(ParameterStore& store) : store_(&store) {}
  ParameterStore* store_;
  std::size_t weight_ = 0;
  std::optional<std::size_t> bias_;
  std::int64_t first_row_ = 0, rows_ = 0;  // of the local weight
  std::optional<SigmaReparam> reparam_;
};

// y = x W^T with W [outputs, inputs] split by inputs. x: sharded(1) on the tensor axis; y: partial.
class RowParallelLinear {
 public:
  RowParallelLinear(const std::string& name, std::int64_t outputs, std::int64_t inputs,
                    const LinearOptions& options, const Mesh& mesh, ParameterStore& store);
  Variable forward(Tape& tape, const Variable& x) const;
  void weights_changed(WeightChange change, ExecutionContext& execution);

 private:
  ParameterStore* store_;
  std::size_t weight_;
  std::optional<SigmaReparam> reparam_;
};

// Of the linear layers that end a residual branch: their initial weights shrink with the number of
// branches (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").
LinearOptions output_options(const ModelConfig& config, bool reparametrised);

// A parameter [rows, columns], or [columns] when rows is 0, that every data rank holds, placed as
// given on the tensor axis, where it is split if that is sharded.
Parameter make_parameter(const std::string& name, std::int64_t rows, std::int64_t columns,
                         Placement on_tensor, const Mesh& mesh);

}  // namespace filigree
