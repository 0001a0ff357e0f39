// Makes the arguments of one kernel call, again and again with equal values in different dtypes.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/execution.hpp"
#include "runtime/core/random.hpp"
#include "runtime/core/tensor.hpp"
#include "tests/harness/poison_allocator.hpp"

namespace filigree::testing {

// A new tensor of `dtype` with the elements of an f64 one, each rounded to nearest.
inline Tensor rounded_to(const Tensor& x, DType dtype,
                         const std::shared_ptr<Allocator>& allocator = host_allocator()) {
  const Tensor converted = x.to(dtype);
  Tensor result = Tensor::empty(x.shape(), dtype, allocator);
  result.copy_from(converted);
  return result;
}

// f64 normal values, a function of (seed, stream, element) only.
inline Tensor random_normal(const Shape& shape, std::uint64_t stream, std::uint64_t seed = 1) {
  const Tensor x = Tensor::empty(shape, DType::f64);
  const Philox philox(seed, RandomPurpose::test, stream);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<double>()[i] = philox.normal(static_cast<std::uint64_t>(i));
  return x;
}

// The n-th tensor that a source makes has the same values whatever the dtype it runs in: drawn in
// f64 and rounded to `as`. A truth source then keeps them in f64; any other stores them as `as`. So
// every implementation sees the inputs that the f64 reference sees. Outputs start as NaN.
class TensorSource {
 public:
  struct Output {
    std::string name;
    Tensor tensor;
    DType as;  // the dtype in whose units errors are counted
  };
  using Map = std::function<double(double)>;  // from a normal value to the wanted one

  // accelerator: where tensors go once they are made; null: they stay with the host.
  TensorSource(DType dtype, bool is_truth, ExecutionContext* accelerator = nullptr)
      : dtype_(dtype), is_truth_(is_truth), accelerator_(accelerator) {}

  DType storage() const { return dtype_; }
  DType accumulation() const { return accumulation_dtype(dtype_); }

  Tensor input(const Shape& shape, const Map& map = {}, std::optional<DType> as = {}) {
    Tensor values = random_normal(shape, ++stream_);
    if (map)
      for (double& value : values.span<double>()) value = map(value);
    return stored(values, as.value_or(dtype_));
  }
  // The given f64 values.
  Tensor input_of(const Tensor& values, std::optional<DType> as = {}) {
    return stored(values, as.value_or(dtype_));
  }
  Tensor integers(const std::vector<std::int32_t>& values) {
    return placed(Tensor::from<std::int32_t>({static_cast<std::int64_t>(values.size())}, values));
  }
  // A host tensor as it is, of any dtype; an undefined one stays so.
  Tensor given(const Tensor& tensor) { return tensor.defined() ? placed(tensor) : tensor; }
  Tensor output(const std::string& name, const Shape& shape, std::optional<DType> as = {}) {
    const DType dtype = as.value_or(dtype_);
    outputs_.push_back(
        {name, placed(Tensor::empty(shape, is_truth_ ? DType::f64 : dtype, allocator_)), dtype});
    return outputs_.back().tensor;
  }
  // Written by the op and not compared.
  Tensor unchecked(const Shape& shape, DType dtype) {
    return placed(Tensor::empty(shape, dtype, allocator_));
  }
  // An output that the op updates: starts with random values.
  Tensor updated(const std::string& name, const Shape& shape, const Map& map = {},
                 std::optional<DType> as = {}) {
    outputs_.push_back({name, input(shape, map, as), as.value_or(dtype_)});
    return outputs_.back().tensor;
  }
  // A tensor of this source where the host can read it.
  Tensor on_host(const Tensor& tensor) const {
    return accelerator_ == nullptr ? tensor : to_host(*accelerator_->stream, tensor);
  }
  // In host memory.
  std::vector<Output> outputs() const {
    std::vector<Output> result = outputs_;
    for (Output& output : result) output.tensor = on_host(output.tensor);
    return result;
  }
  const std::shared_ptr<Allocator>& allocator() const { return allocator_; }

 private:
  Tensor stored(const Tensor& values, DType as) const {
    const Tensor once = rounded_to(values, as, allocator_);
    return placed(is_truth_ ? rounded_to(once, DType::f64, allocator_) : once);
  }
  Tensor placed(const Tensor& tensor) const {
    if (accelerator_ == nullptr) return tensor;
    return to_device(*accelerator_->stream, tensor, accelerator_->allocator);
  }

  DType dtype_;
  bool is_truth_;
  ExecutionContext* accelerator_;
  std::uint64_t stream_ = 0;
  std::vector<Output> outputs_;
  std::shared_ptr<Allocator> allocator_ = std::make_shared<PoisonAllocator>();
};

}  // namespace filigree::testing
