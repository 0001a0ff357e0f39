#include "parallel/transitions.hpp"

namespace filigree {
namespace {

void check_placement(const char* transition, const Variable& x, Placement wanted,
                     const char* because) {
  const Placement found = x.placements()[Axis::tensor];
  FILIGREE_CHECK(found == wanted, transition, " needs its input ", wanted,
                 " on the tensor axis, but it is ", found, "; ", because);
}

// The sum over the tensor axis in memory of its own: `tensor` may be saved or shared elsewhere.
Tensor summed(const Tensor& tensor, const Mesh& mesh, const ExecutionContext& execution) {
  if (mesh.size(Axis::tensor) == 1) return tensor;
  const Tensor sum = execution.clone(tensor, MemoryUse::activations);
  mesh.on(Axis::tensor).all_reduce(sum);
  return sum;
}

}  // namespace

Variable copy_to_tensor_parallel(Tape& tape, const Variable& x, const Mesh& mesh) {
  check_placement("copy_to_tensor_parallel", x, Placement::invariant(),
                  "entering twice would sum its gradient twice");
  const Placements in = x.placements();
  const Variable y =
      tape.output(x.value(), in.with(Axis::tensor, Placement::replicated()), {&x, 1});
  tape.record("copy_to_tensor_parallel", {x}, {y}, [&mesh, in](const BackwardContext& context) {
    if (context.needs(0))
      context.accumulate(0, summed(context.output_gradient(), mesh, context.execution()),
                         in.gradient());
  });
  return y;
}

Variable reduce_from_tensor_parallel(Tape& tape, const Variable& x, const Mesh& mesh) {
  check_placement("reduce_from_tensor_parallel", x, Placement::partial(),
                  "only a row-parallel product leaves partial sums");
  const Placements in = x.placements();
  const Variable y = tape.output(summed(x.value(), mesh, tape.execution()),
                                 in.with(Axis::tensor, Placement::invariant()), {&x, 1});
  tape.record("reduce_from_tensor_parallel", {x}, {y}, [in](const BackwardContext& context) {
    if (context.needs(0)) context.accumulate(0, context.output_gradient(), in.gradient());
  });
  return y;
}

}  // namespace filigree
