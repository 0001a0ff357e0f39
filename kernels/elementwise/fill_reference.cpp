#include <algorithm>

#include "kernels/elementwise/fill.hpp"
#include "kernels/elementwise/floating.hpp"

namespace filigree {

void Fill::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.y.dtype(), [&](auto type) {
    using T = decltype(type);
    std::fill_n(a.y.data<T>(), a.y.numel(), *a.value.data<T>());
  });
}

}  // namespace filigree
