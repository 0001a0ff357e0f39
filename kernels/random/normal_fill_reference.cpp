#include "kernels/elementwise/floating.hpp"
#include "kernels/random/normal_fill.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

template <class T>
void fill(const NormalFill::Arguments& a) {
  const Philox philox(a.seed, RandomPurpose::initialisation, a.stream);
  const std::int64_t R = rows_of(a.x_RC), C = columns_of(a.x_RC);
  T* x = a.x_RC.data<T>();
  for (std::int64_t r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < C; ++c) {
      const std::int64_t index = (a.first_row + r) * a.global_columns + a.first_column + c;
      const double value = a.mean + a.deviation * philox.normal(static_cast<std::uint64_t>(index));
      x[r * C + c] = rounded<T>(value);
    }
}

}  // namespace

void NormalFill::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_RC.dtype(), [&](auto type) { fill<decltype(type)>(a); });
}

}  // namespace filigree
