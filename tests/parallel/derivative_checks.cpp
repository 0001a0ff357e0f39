// <f(x), y> = <x, f*(y)>, summed over ranks: collectives that are each other's adjoint,
// transitions, and their placements.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/transitions.hpp"
#include "parallel_checks.hpp"

namespace filigree::testing {
namespace {

using World = std::shared_ptr<Communicator>;

void expect_equal_products(Communicator& world, double left, double right) {
  const double l = sum_over_ranks(world, left), r = sum_over_ranks(world, right);
  EXPECT_NEAR(l, r, 1e-12 * (1.0 + std::abs(l)));
}

std::uint64_t stream(const Communicator& world, std::uint64_t which) {
  return which * 1000 + static_cast<std::uint64_t>(world.rank());
}

void check_gather_and_scatter_are_adjoint(const World& world) {
  const std::int64_t count = 37;
  const Tensor x = random_tensor({count}, DType::f64, stream(*world, 1));
  const Tensor y = random_tensor({count * world->size()}, DType::f64, stream(*world, 2));
  const Tensor gathered = Tensor::empty(y.shape(), DType::f64);
  const Tensor scattered = Tensor::empty(x.shape(), DType::f64);
  world->all_gather(x, gathered);
  world->reduce_scatter(y, scattered);
  expect_equal_products(*world, dot(gathered, y), dot(x, scattered));
}

void check_all_reduce_is_self_adjoint(const World& world) {
  const Tensor x = random_tensor({53}, DType::f64, stream(*world, 3)), ax = x.clone();
  const Tensor y = random_tensor({53}, DType::f64, stream(*world, 4)), ay = y.clone();
  world->all_reduce(ax);
  world->all_reduce(ay);
  expect_equal_products(*world, dot(ax, y), dot(x, ay));
}

void check_all_to_all_is_its_own_inverse(const World& world) {
  const Shape shape = {11 * world->size()};
  const Tensor x = random_tensor(shape, DType::f64, stream(*world, 5));
  const Tensor y = random_tensor(shape, DType::f64, stream(*world, 6));
  const Tensor ax = Tensor::empty(shape, DType::f64), ay = Tensor::empty(shape, DType::f64);
  world->all_to_all(x, ax);
  world->all_to_all(y, ay);
  expect_equal_products(*world, dot(ax, y), dot(x, ay));
}

// x -> transition -> the gradient that cotangent y sends back to x.
struct Derivative {
  Tensor output, input_gradient;
  Placements output_placements, gradient_placements;
};
template <class Transition>
Derivative differentiate(Transition transition, const Mesh& mesh, const Tensor& x,
                         Placement placement, const Tensor& y) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable in(x, Placements().with(Axis::tensor, placement), true);
  const Variable out = transition(tape, in, mesh);
  tape.backward(out, y.clone());
  return {out.value(), in.gradient(), out.placements(), *in.gradient_placements()};
}

// Forward copies one value to all ranks, so the inner product on the left runs over all ranks'
// copies and the one on the right over the one value: rank 0's share of the sums stands for it.
void check_copy_to_tensor_parallel(const World& world) {
  const Mesh mesh(world, {.tensor = world->size()});
  const Tensor x = random_tensor({5, 7}, DType::f64, 7);  // the same on every rank
  const Tensor y = random_tensor({5, 7}, DType::f64, stream(*world, 8));
  const Tensor x_before = x.clone(), y_before = y.clone();
  const Derivative d = differentiate(copy_to_tensor_parallel, mesh, x, Placement::invariant(), y);
  const double once = world->rank() == 0 ? 1.0 : 0.0;
  expect_equal_products(*world, dot(d.output, y), once * dot(x, d.input_gradient));
  EXPECT_EQ(d.output_placements[Axis::tensor], Placement::replicated());
  EXPECT_EQ(d.gradient_placements[Axis::tensor], Placement::invariant());
  EXPECT_EQ(dot(x, x), dot(x_before, x_before));
  EXPECT_EQ(dot(y, y_before), dot(y_before, y_before));
}

void check_reduce_from_tensor_parallel(const World& world) {
  const Mesh mesh(world, {.tensor = world->size()});
  const Tensor x = random_tensor({3, 9}, DType::f64, stream(*world, 9));
  const Tensor y = random_tensor({3, 9}, DType::f64, 10);  // the same on every rank
  const Tensor x_before = x.clone();
  const Derivative d = differentiate(reduce_from_tensor_parallel, mesh, x, Placement::partial(), y);
  const double once = world->rank() == 0 ? 1.0 : 0.0;
  expect_equal_products(*world, once * dot(d.output, y), dot(x, d.input_gradient));
  EXPECT_EQ(d.output_placements[Axis::tensor], Placement::invariant());
  EXPECT_EQ(d.gradient_placements[Axis::tensor], Placement::replicated());
  EXPECT_EQ(dot(x, x_before), dot(x_before, x_before)) << "the summands may be saved by another op";
}

template <class Function>
std::string internal_error_of(Function&& function) {
  try {
    function();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "no error";
}

void check_placements_are_enforced(const World& world) {
  const Mesh mesh(world, {.tensor = world->size()});
  ExecutionContext execution;
  Tape tape(execution);
  const Tensor x = random_tensor({4}, DType::f64, 11);
  for (const Placement wrong :
       {Placement::replicated(), Placement::partial(), Placement::sharded(0)}) {
    const Variable in(x, Placements().with(Axis::tensor, wrong), true);
    const std::string message = internal_error_of([&] { copy_to_tensor_parallel(tape, in, mesh); });
    EXPECT_NE(
        message.find(
            str("copy_to_tensor_parallel needs its input invariant on the tensor axis, but it is ",
                wrong)),
        std::string::npos)
        << message;
  }
  for (const Placement wrong :
       {Placement::replicated(), Placement::invariant(), Placement::sharded(0)}) {
    const Variable in(x, Placements().with(Axis::tensor, wrong), true);
    const std::string message =
        internal_error_of([&] { reduce_from_tensor_parallel(tape, in, mesh); });
    EXPECT_NE(
        message.find(str(
            "reduce_from_tensor_parallel needs its input partial on the tensor axis, but it is ",
            wrong)),
        std::string::npos)
        << message;
  }
}

constexpr ParallelCheck kChecks[] = {
    {"GatherAndScatterAreAdjoint", check_gather_and_scatter_are_adjoint},
    {"AllReduceIsSelfAdjoint", check_all_reduce_is_self_adjoint},
    {"AllToAllIsItsOwnInverse", check_all_to_all_is_its_own_inverse},
    {"CopyToTensorParallel", check_copy_to_tensor_parallel},
    {"ReduceFromTensorParallel", check_reduce_from_tensor_parallel},
    {"PlacementsAreEnforced", check_placements_are_enforced},
};

}  // namespace

std::span<const ParallelCheck> derivative_checks() { return kChecks; }

}  // namespace filigree::testing
