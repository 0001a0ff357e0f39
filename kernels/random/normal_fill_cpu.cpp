#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/random/normal_fill.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

template <class T>
void fill(const NormalFill::Arguments& a, const ExecutionContext& context) {
  constexpr std::int64_t kNormalCost = 64;  // a draw takes as long as streaming so many elements
  const Philox philox(a.seed, RandomPurpose::initialisation, a.stream);
  const std::int64_t C = columns_of(a.x_RC);
  T* x = a.x_RC.data<T>();
  // Chunks of elements, not of rows: a vector of norms' gains is one long row.
  const auto elements = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / C, c = i % C;
      const std::int64_t index = (a.first_row + r) * a.global_columns + a.first_column + c;
      x[i] = rounded<T>(a.mean + a.deviation * philox.normal(static_cast<std::uint64_t>(index)));
    }
  };
  for_each_chunk(context, a.x_RC.numel(), kChunkElements / kNormalCost, kNormalCost, elements);
}

}  // namespace

void NormalFill::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_RC.dtype(), [&](auto type) { fill<decltype(type)>(a, context); });
}

}  // namespace filigree
