// Numeric gradient check in f64: central differences along random directions against backward, with
// a random cotangent (a sum() cotangent hides errors that cancel over the output).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "runtime/autograd/tape.hpp"
#include "runtime/core/random.hpp"

namespace filigree::testing {

inline Tensor random_tensor(const Shape& shape, std::uint64_t stream, double deviation = 1.0,
                            DType dtype = DType::f64) {
  Tensor result = Tensor::empty(shape, DType::f64);
  const Philox philox(17, RandomPurpose::test, stream);
  auto* out = result.data<double>();
  for (std::int64_t i = 0; i < result.numel(); ++i)
    out[i] = deviation * philox.normal(static_cast<std::uint64_t>(i));
  return dtype == DType::f64 ? result : result.to(dtype);
}

inline Tensor random_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t stream) {
  Tensor result = Tensor::empty({count}, DType::i32);
  const Philox philox(17, RandomPurpose::test, stream);
  for (std::int64_t i = 0; i < count; ++i)
    result.data<std::int32_t>()[i] = static_cast<std::int32_t>(
        philox.uniform(static_cast<std::uint64_t>(i)) * static_cast<double>(vocabulary));
  return result;
}

inline double dot(const Tensor& a, const Tensor& b) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

using Function = std::function<Variable(Tape&, std::span<const Variable>)>;

struct GradcheckOptions {
  int directions = 3;
  double step = 1e-5;
  double tolerance = 1e-6;  // relative to the size of the two estimates
};

// `inputs` are f64 leaves that require gradients. The function may overwrite its inputs' values:
// every call gets copies.
inline void gradcheck(const Function& function, const std::vector<Variable>& inputs,
                      const GradcheckOptions& options = {}) {
  ExecutionContext execution;
  const auto shifted = [&](const std::vector<Tensor>& direction, double amount) {
    std::vector<Variable> moved;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor value = inputs[i].value().clone();
      for (std::int64_t e = 0; e < value.numel(); ++e)
        value.data<double>()[e] += amount * direction[i].data<double>()[e];
      moved.emplace_back(value, inputs[i].placements(), true);
    }
    return moved;
  };
  std::vector<Tensor> still;
  for (const Variable& input : inputs) still.push_back(Tensor::zeros(input.shape(), DType::f64));

  const std::vector<Variable> leaves = shifted(still, 0.0);
  Tape tape(execution);
  const Variable output = function(tape, leaves);
  const Tensor cotangent = random_tensor(output.shape(), 900);
  tape.backward(output, cotangent.clone());

  const auto objective = [&](const std::vector<Tensor>& direction, double amount) {
    Tape forward(execution);
    return dot(cotangent, function(forward, shifted(direction, amount)).value());
  };
  for (int d = 0; d < options.directions; ++d) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      std::vector<Tensor> direction = still;
      direction[i] =
          random_tensor(inputs[i].shape(), 1000 + 10 * static_cast<std::uint64_t>(d) + i);
      const double numeric =
          (objective(direction, options.step) - objective(direction, -options.step)) /
          (2.0 * options.step);
      ASSERT_TRUE(leaves[i].gradient().defined()) << "input " << i << " received no gradient";
      const double analytic = dot(leaves[i].gradient(), direction[i]);
      const double size = std::max({std::abs(numeric), std::abs(analytic), 1e-3});
      EXPECT_LE(std::abs(numeric - analytic), options.tolerance * size)
          << "input " << i << " direction " << d << ": numeric " << numeric << ", backward "
          << analytic;
    }
  }
}

}  // namespace filigree::testing
