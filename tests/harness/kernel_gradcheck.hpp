// Gradients against central differences, in f64.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "tests/harness/tensor_source.hpp"

namespace filigree::testing {

using Tensors = std::vector<Tensor>;

inline double inner_product(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

// x + step * direction, a new tensor.
inline Tensor moved(const Tensor& x, const Tensor& direction, double step) {
  const Tensor result = x.clone();
  for (std::int64_t i = 0; i < x.numel(); ++i)
    result.data<double>()[i] += step * direction.data<double>()[i];
  return result;
}

// The derivative of <forward(inputs), cotangents> along random directions of every input, against
// the inner product with the gradient that `backward` returns for that input. Cotangents are
// random, so that terms which a sum would cancel are seen. The scale of the comparison is the
// gradient's norm, the size of a typical directional derivative.
inline void expect_kernel_gradients(
    const Tensors& inputs, const std::function<Tensors(const Tensors&)>& forward,
    const std::function<Tensors(const Tensors& inputs, const Tensors& cotangents)>& backward,
    double tolerance = 1e-6) {
  constexpr double kStep = 1e-5;
  constexpr std::uint64_t kDirections = 3, kDirectionStreams = 1000;
  Tensors cotangents;
  for (const Tensor& output : forward(inputs))
    cotangents.push_back(random_normal(output.shape(), 500 + cotangents.size()));
  const auto objective = [&](const Tensors& at) {
    const Tensors outputs = forward(at);
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      sum += inner_product(outputs[i], cotangents[i]);
    return sum;
  };
  const Tensors gradients = backward(inputs, cotangents);
  ASSERT_EQ(gradients.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (std::uint64_t k = 0; k < kDirections; ++k) {
      const Tensor direction = random_normal(inputs[i].shape(), kDirectionStreams + 10 * i + k);
      Tensors ahead = inputs, behind = inputs;
      ahead[i] = moved(inputs[i], direction, kStep);
      behind[i] = moved(inputs[i], direction, -kStep);
      const double numeric = (objective(ahead) - objective(behind)) / (2 * kStep);
      const double analytic = inner_product(gradients[i], direction);
      const double scale = std::max({std::abs(numeric), std::abs(analytic),
                                     std::sqrt(inner_product(gradients[i], gradients[i]))});
      EXPECT_LE(std::abs(numeric - analytic), tolerance * scale)
          << "input " << i << " direction " << k << ": gradient gives " << analytic
          << ", central differences " << numeric;
    }
}

}  // namespace filigree::testing
