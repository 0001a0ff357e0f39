#include "parallel/reduce_elements.hpp"

#include <algorithm>
#include <type_traits>

namespace filigree {
namespace {

// Accumulators that fit in the first-level cache.
constexpr std::int64_t kBlock = 1024;

template <ReduceOp op, class T>
T combine(T a, T b) {
  if constexpr (op == ReduceOp::sum) return a + b;
  if constexpr (op == ReduceOp::max) return std::max(a, b);
  if constexpr (op == ReduceOp::min) return std::min(a, b);
}

template <ReduceOp op, class T>
void reduce_typed(std::span<const void* const> inputs, std::span<void* const> outputs,
                  std::int64_t count) {
  using Accumulator = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  Accumulator sums[kBlock];
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t block = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(inputs[0]) + begin;
    for (std::int64_t i = 0; i < block; ++i) sums[i] = static_cast<Accumulator>(first[i]);
    for (const void* input : inputs.subspan(1)) {
      const T* next = static_cast<const T*>(input) + begin;
      for (std::int64_t i = 0; i < block; ++i)
        sums[i] = combine<op>(sums[i], static_cast<Accumulator>(next[i]));
    }
    for (void* output : outputs) {
      T* out = static_cast<T*>(output) + begin;
      for (std::int64_t i = 0; i < block; ++i) out[i] = static_cast<T>(sums[i]);
    }
  }
}

template <ReduceOp op>
void reduce_with(DType dtype, std::span<const void* const> inputs, std::span<void* const> outputs,
                 std::int64_t count) {
  switch (dtype) {
    case DType::f64:
      return reduce_typed<op, double>(inputs, outputs, count);
    case DType::f32:
      return reduce_typed<op, float>(inputs, outputs, count);
    case DType::bf16:
      return reduce_typed<op, BFloat16>(inputs, outputs, count);
    case DType::i64:
      return reduce_typed<op, std::int64_t>(inputs, outputs, count);
    case DType::i32:
      return reduce_typed<op, std::int32_t>(inputs, outputs, count);
    default:
      FILIGREE_CHECK(false, "cannot reduce ", name_of(dtype));
  }
}

}  // namespace

void reduce_elements(DType dtype, ReduceOp op, std::span<const void* const> inputs,
                     std::span<void* const> outputs, std::int64_t count) {
  switch (op) {
    case ReduceOp::sum:
      return reduce_with<ReduceOp::sum>(dtype, inputs, outputs, count);
    case ReduceOp::max:
      return reduce_with<ReduceOp::max>(dtype, inputs, outputs, count);
    case ReduceOp::min:
      return reduce_with<ReduceOp::min>(dtype, inputs, outputs, count);
  }
}

}  // namespace filigree
