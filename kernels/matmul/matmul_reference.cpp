#include "kernels/elementwise/floating.hpp"
#include "kernels/matmul/matmul_implementations.hpp"

namespace filigree {

namespace {

template <class In, class Out>
void multiply(const Matmul::Arguments& arguments) {
  using Acc = Accumulator<In>;
  const auto [m, n, k] = matmul_sizes(arguments);
  const In* const a = arguments.a.data<In>();
  const In* const b = arguments.b.data<In>();
  const Out* const bias = arguments.bias.defined() ? arguments.bias.data<Out>() : nullptr;
  Out* const c = arguments.c.data<Out>();
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      Acc sum = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        const In left = arguments.transpose_a ? a[p * m + i] : a[i * k + p];
        const In right = arguments.transpose_b ? b[j * k + p] : b[p * n + j];
        sum += static_cast<Acc>(left) * static_cast<Acc>(right);
      }
      if (arguments.accumulate) sum += static_cast<Acc>(c[i * n + j]);
      if (bias != nullptr) sum += static_cast<Acc>(bias[j]);
      c[i * n + j] = static_cast<Out>(sum);
    }
  }
}

}  // namespace

void matmul_reference(const Matmul::Arguments& arguments, ExecutionContext&) {
  visit_floating(arguments.a.dtype(), [&](auto type) {
    using In = decltype(type);
    if (arguments.a.dtype() == arguments.c.dtype())
      multiply<In, In>(arguments);
    else
      multiply<In, float>(arguments);
  });
}

}  // namespace filigree
