// Meshes, and the gradient reducer against sums made by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "parallel/gradient_reducer.hpp"
#include "parallel_checks.hpp"

namespace filigree::testing {
namespace {

using World = std::shared_ptr<Communicator>;

std::vector<MeshShape> shapes_of(int ranks) {
  std::vector<MeshShape> shapes;
  for (int data = 1; data <= ranks; ++data)
    if (ranks % data == 0) shapes.push_back({.data = data, .tensor = ranks / data});
  if (ranks == 4) shapes.push_back({.pipeline = 2, .context = 2});
  return shapes;
}

void check_mesh(const World& world) {
  for (const MeshShape& shape : shapes_of(world->size())) {
    SCOPED_TRACE(shape.name());
    // Two meshes at once must not disturb each other.
    const Mesh mesh(world, shape), twin(world, shape);
    int rank = 0;  // rebuilt from the coordinates, as mesh.hpp says
    for (const Axis axis : kAxes) {
      EXPECT_EQ(mesh.on(axis).size(), shape[axis]);
      EXPECT_EQ(mesh.on(axis).rank(), mesh.coordinate(axis));
      EXPECT_EQ(mesh.on(axis).name(), name_of(axis));
      rank = rank * shape[axis] + mesh.coordinate(axis);
    }
    EXPECT_EQ(rank, world->rank());
    for (const Axis axis : kAxes) {
      double expected = 0.0;  // the sum of the world ranks along this axis
      int stride = 1;
      for (const Axis inner : {Axis::tensor, Axis::context, Axis::data, Axis::pipeline}) {
        if (inner == axis) break;
        stride *= shape[inner];
      }
      for (int c = 0; c < shape[axis]; ++c)
        expected += world->rank() + (c - mesh.coordinate(axis)) * stride;
      EXPECT_EQ(sum_over_ranks(mesh.on(axis), world->rank()), expected);
      EXPECT_EQ(sum_over_ranks(twin.on(axis), 2.0 * world->rank()), 2.0 * expected);
    }
  }
}

constexpr std::int64_t kAlignment = 16;

// Parameters of awkward sizes whose gradients are partial on no, one or both axes, in a flat buffer
// with gaps.
class Gradients {
 public:
  explicit Gradients(const Mesh& mesh) : mesh_(mesh) {
    const Placement partial = Placement::partial(), none = Placement::invariant();
    add(5, partial, none);
    add(130, partial, none);
    add(1, partial, partial);
    add(64, partial, Placement::sharded(0));
    add(33, none, partial);
    add(17, none, none);
    add(250, partial, partial);
    add(2, partial, none);
    std::int64_t total = 0;
    for (const Item& item : items_) total += padded(item.count);
    flat_ = Tensor::zeros({total}, DType::f64);
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      items_[i].begin = begin;
      const Shape shape = {items_[i].count};
      parameters_.push_back(Variable::parameter(str("p", i), Tensor::zeros(shape, DType::f64),
                                                flat_.flat(begin, shape), Placements()));
      begin += padded(items_[i].count);
    }
  }

  const std::vector<Variable>& parameters() const { return parameters_; }
  const Tensor& flat() const { return flat_; }

  // Leaves every gradient but those in `skipped` on this rank, in an order that differs from pass
  // to pass.
  void backward(Tape& tape, int pass, const std::vector<std::size_t>& skipped = {}) {
    Variable running(Tensor::zeros({1}, DType::f64), Placements());
    for (std::size_t k = 0; k < items_.size(); ++k) {
      const std::size_t i = (k * 3 + static_cast<std::size_t>(pass)) % items_.size();
      if (std::find(skipped.begin(), skipped.end(), i) != skipped.end()) continue;
      const std::vector<Variable> inputs = {running, parameters_[i]};
      const Variable next = tape.output(running.value(), Placements(), inputs);
      tape.record("use", inputs, {next}, [this, i, pass](const BackwardContext& context) {
        const auto [data, tensor] = coordinates(i);
        context.accumulate(1, contribution(i, pass, data, tensor), placements(i));
        if (context.needs(0)) context.accumulate(0, context.output_gradient(), Placements());
      });
      running = next;
    }
    tape.backward(running, Tensor::zeros({1}, DType::f64));
  }

  // Everything on the whole mesh, summed by hand.
  void expect_reduced(int passes) const {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const Item& item = items_[i];
      const Tensor expected = expected_sum(i, passes);
      const double* found = flat_.data<double>() + item.begin;
      for (std::int64_t e = 0; e < item.count; ++e)
        ASSERT_NEAR(found[e], expected.data<double>()[e], 1e-13 * mesh_.world().size())
            << "p" << i << '[' << e << ']';
      for (std::int64_t e = item.count; e < padded(item.count); ++e)
        ASSERT_EQ(found[e], 0.0) << "gap " << e;
      const Placements after = *parameters_[i].gradient_placements();
      EXPECT_EQ(after[Axis::data], Placement::invariant());
      EXPECT_EQ(after[Axis::tensor],
                item.tensor.is_sharded() ? item.tensor : Placement::invariant());
    }
  }

  void clear() const {
    for (const Variable& parameter : parameters_) parameter.clear_gradient();
  }

 private:
  struct Item {
    std::int64_t count;
    Placement data, tensor;
    std::int64_t begin = 0;
  };
  static std::int64_t padded(std::int64_t count) {
    return (count + kAlignment - 1) / kAlignment * kAlignment;
  }
  void add(std::int64_t count, Placement data, Placement tensor) {
    items_.push_back({count, data, tensor});
  }
  Placements placements(std::size_t i) const {
    return Placements().with(Axis::data, items_[i].data).with(Axis::tensor, items_[i].tensor);
  }
  // Where an invariant gradient lies does not matter: it is the same everywhere.
  std::pair<int, int> coordinates(std::size_t i) const {
    return {items_[i].data.is_invariant() ? 0 : mesh_.coordinate(Axis::data),
            items_[i].tensor.is_invariant() ? 0 : mesh_.coordinate(Axis::tensor)};
  }
  Tensor contribution(std::size_t i, int pass, int data, int tensor) const {
    const auto stream =
        ((i * 10 + static_cast<std::size_t>(pass)) * 10 + static_cast<std::size_t>(data)) * 10;
    return random_tensor({items_[i].count}, DType::f64, stream + static_cast<std::size_t>(tensor));
  }
  Tensor expected_sum(std::size_t i, int passes) const {
    const Item& item = items_[i];
    const Tensor sum = Tensor::zeros({item.count}, DType::f64);
    const auto [my_data, my_tensor] = coordinates(i);
    for (int pass = 0; pass < passes; ++pass)
      for (int d = 0; d < mesh_.size(Axis::data); ++d)
        for (int t = 0; t < mesh_.size(Axis::tensor); ++t) {
          if ((!item.data.is_partial() && d != my_data) ||
              (!item.tensor.is_partial() && t != my_tensor))
            continue;
          const Tensor term = contribution(i, pass, d, t);
          for (std::int64_t e = 0; e < item.count; ++e)
            sum.data<double>()[e] += term.data<double>()[e];
        }
    return sum;
  }

  const Mesh& mesh_;
  std::vector<Item> items_;
  std::vector<Variable> parameters_;
  Tensor flat_;
};

void check_reducer_equals_hand_sum(const World& world) {
  for (const MeshShape& shape : shapes_of(world->size()))
    for (const std::int64_t bucket_bytes :
         {std::int64_t{1}, std::int64_t{1100}, std::int64_t{1} << 30}) {
      SCOPED_TRACE(str(shape.name(), ", buckets of ", bucket_bytes));
      const Mesh mesh(world, shape);
      Gradients gradients(mesh);
      GradientReducer reducer(mesh, gradients.parameters(), gradients.flat(), {bucket_bytes});
      ExecutionContext execution;
      Tape tape(execution);
      for (int step = 0; step < 2; ++step) {
        gradients.clear();
        for (int pass = 0; pass < 3; ++pass) {
          if (pass == 2) reducer.attach(tape);
          gradients.backward(tape, pass);
        }
        reducer.finish();
        gradients.expect_reduced(3);
      }
    }
}

void check_reduction_overlaps_backward(const World& world) {
  const Mesh mesh(world, {.data = world->size()});
  Gradients gradients(mesh);
  GradientReducer reducer(mesh, gradients.parameters(), gradients.flat(), {1});
  ExecutionContext execution;
  Tape tape(execution);
  reducer.attach(tape);
  gradients.backward(tape, 0);
  // One bucket per parameter: those partial on the data axis have all been started by the end of
  // backward.
  EXPECT_EQ(mesh.on(Axis::data).statistics().calls, world->size() > 1 ? 6 : 0);
  reducer.finish();
  EXPECT_EQ(mesh.on(Axis::data).statistics().calls, world->size() > 1 ? 6 : 0);
  gradients.expect_reduced(1);
}

void check_unreached_parameters_are_named(const World& world) {
  const Mesh mesh(world, {.data = world->size()});
  Gradients gradients(mesh);
  GradientReducer reducer(mesh, gradients.parameters(), gradients.flat(), {});
  ExecutionContext execution;
  Tape tape(execution);
  reducer.attach(tape);
  gradients.backward(tape, 0, {2, 5});
  try {
    reducer.finish();
    ADD_FAILURE() << "finish() accepted gradients that nothing has reached";
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("backward reached no gradient of p2, p5"),
              std::string::npos)
        << error.what();
  }
}

constexpr ParallelCheck kChecks[] = {
    {"Mesh", check_mesh},
    {"ReducerEqualsHandSum", check_reducer_equals_hand_sum},
    {"ReductionOverlapsBackward", check_reduction_overlaps_backward},
    {"UnreachedParametersAreNamed", check_unreached_parameters_are_named},
};

}  // namespace

std::span<const ParallelCheck> reducer_checks() { return kChecks; }

}  // namespace filigree::testing
