#include <cmath>

#include "kernels/elementwise/scalars.hpp"

namespace filigree {

void Divide::reference(const Arguments& a, ExecutionContext&) {
  const double* top = a.a.defined() ? a.a.data<double>() : nullptr;
  for (std::int64_t i = 0; i < a.y.numel(); ++i)
    a.y.data<double>()[i] = (top ? top[i] : 1.0) / a.b.data<double>()[i];
}

void SquareRoot::reference(const Arguments& a, ExecutionContext&) {
  for (std::int64_t i = 0; i < a.y.numel(); ++i)
    a.y.data<double>()[i] = std::sqrt(a.x.data<double>()[i]);
}

}  // namespace filigree
