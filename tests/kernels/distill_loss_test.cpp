#include "kernels/gate/distill_loss.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

const std::vector<DType> kWide = {DType::f64, DType::f32};

// Teacher rows that sum to 1 over the candidates, one block of each without mass; rows with fewer
// than two candidates weigh nothing, the others 1, 2, 3, 1, ...
struct Lesson {
  std::vector<std::int32_t> groups;
  Tensor teacher, weight;

  explicit Lesson(const BlockGrid& grid) : groups(sampled_groups(grid)) {
    const std::int64_t R = static_cast<std::int64_t>(groups.size()), M = grid.key_blocks();
    teacher = random_normal({grid.batch, grid.heads, R, M}, 11);
    weight = Tensor::zeros({grid.batch, grid.heads, R}, DType::f64);
    for (std::int64_t row = 0; row < weight.numel(); ++row) {
      const std::int64_t b = row / (grid.heads * R), n = groups[static_cast<std::size_t>(row % R)];
      double* p = teacher.data<double>() + row * M;
      double sum = 0;
      std::int64_t candidates = 0;
      for (std::int64_t m = 0; m < M; ++m) {
        const bool scored = has_score(grid, b, n, m);
        p[m] = scored && candidates != 2 ? std::abs(p[m]) : 0.0;
        candidates += scored;
        sum += p[m];
      }
      for (std::int64_t m = 0; m < M && sum > 0; ++m) p[m] /= sum;
      if (candidates >= 2) weight.data<double>()[row] = static_cast<double>(1 + row % 3);
    }
  }
};

double weight_sum(const Tensor& weight) {
  double sum = 0;
  for (const double value : weight.span<double>()) sum += value;
  return sum;
}

TEST(DistillLoss, MatchesTheReference) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Lesson lesson(grid);
    const Shape scores{grid.batch, grid.heads, grid.groups(), grid.key_blocks()};
    expect_parity<DistillLoss>(
        [&](TensorSource& source) {
          return DistillLoss::Arguments{
              placed(source, grid),           source.input(scores),
              source.integers(lesson.groups), source.input_of(lesson.teacher),
              source.input_of(lesson.weight), source.output("loss", {1}),
              source.output("total", {1})};
        },
        {.dtypes = kWide});
    const Tensor dloss = Tensor::from<double>({1}, std::vector<double>{0.75});
    const Tensor total = Tensor::from<double>({1}, std::vector<double>{weight_sum(lesson.weight)});
    for (const bool accumulate : {false, true})
      expect_parity<DistillLossGradient>(
          [&](TensorSource& source) {
            return DistillLossGradient::Arguments{
                placed(source, grid),
                source.input(scores),
                source.integers(lesson.groups),
                source.input_of(lesson.teacher),
                source.input_of(lesson.weight),
                source.input_of(dloss),
                source.input_of(total),
                accumulate ? source.updated("dz", scores) : source.output("dz", scores),
                accumulate};
          },
          {.dtypes = kWide});
  }
}

struct Loss {
  Tensor loss, total;
};
Loss loss_of(const BlockGrid& grid, const Tensor& z, const Lesson& lesson,
             const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Loss loss{context.empty({1}, DType::f64), context.empty({1}, DType::f64)};
  dispatch<DistillLoss>(
      {grid, z, i32(lesson.groups), lesson.teacher, lesson.weight, loss.loss, loss.total}, context);
  return loss;
}

// Blocks and groups of 1, three tokens: group 2 has the candidates 0 and 1, the others fewer than
// two. z = 0, log 3 gives p_hat = 1/4, 3/4.
TEST(DistillLoss, MatchesAHandComputedCase) {
  const BlockGrid grid = grid_of(1, 1, 3, 1, 1);
  const Tensor z = Tensor::zeros({1, 1, 3, 3}, DType::f64);
  z.data<double>()[2 * 3 + 1] = std::log(3.0);
  Lesson lesson(grid);
  ASSERT_EQ(lesson.groups, (std::vector<std::int32_t>{2, 0}));
  const std::vector<double> half = {0.5, 0.5, 0, 0, 0, 0};
  std::copy(half.begin(), half.end(), lesson.teacher.data<double>());
  lesson.weight.data<double>()[0] = 2.0;
  for (const std::string& name : implementation_names<DistillLoss>()) {
    const Loss loss = loss_of(grid, z, lesson, name);
    EXPECT_NEAR(loss.loss.data<double>()[0], 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0),
                1e-15);
    EXPECT_EQ(loss.total.data<double>()[0], 2.0);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor dz = context.empty(z.shape(), DType::f64);
    dispatch<DistillLossGradient>(
        {grid, z, i32(lesson.groups), lesson.teacher, lesson.weight,
         Tensor::from<double>({1}, std::vector<double>{10.0}), loss.total, dz},
        context);
    const std::vector<double> expected = {0, 0, 0, 0, 0, 0, -2.5, 2.5, 0};
    for (std::size_t i = 0; i < 9; ++i)
      EXPECT_NEAR(dz.data<double>()[i], expected[i], 1e-14) << name << ", element " << i;
  }
}

TEST(DistillLoss, IsZeroWhereTheGateAgrees) {
  const BlockGrid grid = grid_of(2, 2, 200, 16, 16);
  const Lesson lesson(grid);
  const std::int64_t N = grid.groups(), M = grid.key_blocks(), R = lesson.weight.dim(2);
  const Tensor z = Tensor::zeros({2, 2, N, M}, DType::f64);
  for (std::int64_t row = 0; row < 4 * R; ++row)
    for (std::int64_t m = 0; m < M; ++m) {
      const std::int64_t n = lesson.groups[static_cast<std::size_t>(row % R)];
      const double p = lesson.teacher.data<double>()[row * M + m];
      z.data<double>()[(row / R * N + n) * M + m] = 4.0 + (p > 0 ? std::log(p) : -1000.0);
    }
  for (const std::string& name : implementation_names<DistillLoss>())
    EXPECT_NEAR(loss_of(grid, z, lesson, name).loss.data<double>()[0], 0.0, 1e-13) << name;
}

TEST(DistillLoss, OfNoWeightIsZero) {
  for (const BlockGrid& grid : {grid_of(1, 1, 0, 16, 16), grid_of(1, 2, 1, 1, 16)})
    for (const std::string& name : implementation_names<DistillLoss>()) {
      const Lesson lesson(grid);
      const Tensor z = random_scores(grid, 1);
      const Loss loss = loss_of(grid, z, lesson, name);
      EXPECT_EQ(loss.loss.data<double>()[0], 0.0);
      EXPECT_EQ(loss.total.data<double>()[0], 0.0);
      ExecutionContext context;
      context.allocator = std::make_shared<PoisonAllocator>();
      context.forced_kernels["*"] = name;
      const Tensor dz = context.empty(z.shape(), DType::f64);
      dispatch<DistillLossGradient>(
          {grid, z, i32(lesson.groups), lesson.teacher, lesson.weight,
           Tensor::from<double>({1}, std::vector<double>{1.0}), loss.total, dz},
          context);
      for (const double value : dz.span<double>()) EXPECT_EQ(value, 0.0);
    }
}

TEST(DistillLoss, GradientIsTheGradient) {
  for (const std::string& name : implementation_names<DistillLoss>())
    for (const BlockGrid& grid :
         {grid_of(2, 2, 60, 4, 4), with_documents(grid_of(1, 2, 60, 4, 4), {0, 17}),
          grid_of(1, 2, 40, 4, 4, false)}) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      const Lesson lesson(grid);
      ExecutionContext context;
      context.forced_kernels["*"] = name;
      expect_kernel_gradients(
          {random_scores(grid, 1)},
          [&](const Tensors& in) -> Tensors { return {loss_of(grid, in[0], lesson, name).loss}; },
          [&](const Tensors& in, const Tensors& d) -> Tensors {
            const Tensor dz = context.empty(in[0].shape(), DType::f64);
            dispatch<DistillLossGradient>(
                {grid, in[0], i32(lesson.groups), lesson.teacher, lesson.weight, d[0],
                 Tensor::from<double>({1}, std::vector<double>{weight_sum(lesson.weight)}), dz},
                context);
            return {dz};
          });
    }
}

}  // namespace
}  // namespace filigree::testing
