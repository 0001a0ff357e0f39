// Small differentiable functions in f64, and what the tests of the tape share.
#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "runtime/autograd/tape.hpp"
#include "runtime/core/random.hpp"

namespace filigree::testing {

template <class T = double>
Tensor random_tensor(const Shape& shape, std::uint64_t stream) {
  const Philox random(7, RandomPurpose::test, stream);
  const Tensor tensor = Tensor::empty(shape, dtype_of<T>);
  for (std::int64_t i = 0; i < tensor.numel(); ++i)
    tensor.data<T>()[i] = static_cast<T>(random.normal(static_cast<std::uint64_t>(i)));
  return tensor;
}

// A parameter whose gradient buffer starts as NaN: the first contribution must overwrite it.
template <class T = double>
Variable random_parameter(const std::string& name, const Shape& shape, std::uint64_t stream) {
  const Tensor gradient = Tensor::empty(shape, dtype_of<T>);
  std::memset(gradient.raw(), 0xff, static_cast<std::size_t>(gradient.bytes()));
  return Variable::parameter(name, random_tensor<T>(shape, stream), gradient, Placements());
}

inline Variable random_input(const Shape& shape, std::uint64_t stream) {
  return Variable(random_tensor(shape, stream), Placements(), true);
}

template <class T, class Function>
Tensor map(const Tensor& a, const Tensor& b, const ExecutionContext& execution,
           Function&& function) {
  const Tensor out = execution.empty(a.shape(), a.dtype(), MemoryUse::activations);
  for (std::int64_t i = 0; i < a.numel(); ++i)
    out.data<T>()[i] = function(a.data<T>()[i], b.data<T>()[i]);
  return out;
}

// y = a * b, elementwise. Appends `name` to `trace` when its backward runs.
template <class T = double>
Variable multiply(Tape& tape, const Variable& a, const Variable& b,
                  const std::string& name = "multiply", std::vector<std::string>* trace = nullptr) {
  const auto times = [](T x, T y) { return x * y; };
  const std::vector<Variable> inputs = {a, b};
  const Variable y =
      tape.output(map<T>(a.value(), b.value(), tape.execution(), times), Placements(), inputs);
  tape.record(name, inputs, {y},
              [a = a.value(), b = b.value(), name, trace, times](const BackwardContext& context) {
                if (trace != nullptr) trace->push_back(name);
                const Tensor& g = context.output_gradient();
                if (context.needs(0))
                  context.accumulate(0, map<T>(g, b, context.execution(), times), {});
                if (context.needs(1))
                  context.accumulate(1, map<T>(g, a, context.execution(), times), {});
              });
  return y;
}

// y = a + b: hands one tensor to both inputs, as the layers' residual addition does.
inline Variable add(Tape& tape, const Variable& a, const Variable& b) {
  const std::vector<Variable> inputs = {a, b};
  const auto plus = [](double x, double y) { return x + y; };
  const Variable y =
      tape.output(map<double>(a.value(), b.value(), tape.execution(), plus), Placements(), inputs);
  tape.record("add", inputs, {y}, [](const BackwardContext& context) {
    for (const std::size_t i : {0, 1})
      if (context.needs(i)) context.accumulate(i, context.output_gradient(), {});
  });
  return y;
}

inline std::string internal_error_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace filigree::testing
