#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/floating.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

template <class T>
void add(const Add::Arguments& arguments) {
  const T *a = arguments.a.data<T>(), *b = arguments.b.data<T>();
  T* y = arguments.y.data<T>();
  for (std::int64_t i = 0, n = arguments.y.numel(); i < n; ++i)
    y[i] = T(widened(a[i]) + widened(b[i]));
}

// Computes in f64 when either side is f64, so that nothing is rounded twice.
template <class From, class To>
void scale(const Scale::Arguments& a) {
  using A = std::common_type_t<Accumulator<From>, Accumulator<To>>;
  const From* x = a.x.data<From>();
  To* y = a.y.data<To>();
  const A factor = static_cast<A>(a.by.defined() ? a.factor * *a.by.data<double>() : a.factor);
  for (std::int64_t i = 0, n = a.y.numel(); i < n; ++i) {
    const A scaled = factor * static_cast<A>(widened(x[i]));
    const A sum = a.accumulate ? scaled + static_cast<A>(widened(y[i])) : scaled;
    y[i] = rounded<To>(sum);
  }
}

template <class T>
double dot(const Tensor& left, const Tensor& right) {
  const T *a = left.data<T>(), *b = right.data<T>();
  double sum = 0;
  for (std::int64_t i = 0, n = left.numel(); i < n; ++i)
    sum += static_cast<double>(widened(a[i])) * static_cast<double>(widened(b[i]));
  return sum;
}

template <class T>
void dropout(const Dropout::Arguments& a) {
  using A = Accumulator<T>;
  const Philox philox(a.seed, RandomPurpose::dropout,
                      static_cast<std::uint64_t>(*a.stream.data<std::int64_t>()));
  const std::int64_t first = a.first_row * columns_of(a.x_TD);
  const A keep = static_cast<A>(1 - a.rate);
  const T* x = a.x_TD.data<T>();
  T* y = a.y_TD.data<T>();
  for (std::int64_t i = 0, n = a.x_TD.numel(); i < n; ++i) {
    const bool kept = philox.uniform(static_cast<std::uint64_t>(first + i)) >= a.rate;
    y[i] = kept ? T(widened(x[i]) / keep) : T{};
  }
}

}  // namespace

void Add::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.y.dtype(), [&](auto type) { add<decltype(type)>(a); });
}

void Scale::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x.dtype(), [&](auto from) {
    visit_floating(a.y.dtype(), [&](auto to) { scale<decltype(from), decltype(to)>(a); });
  });
}

void Dot::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.a.dtype(),
                 [&](auto type) { *a.sum.data<double>() = dot<decltype(type)>(a.a, a.b); });
}

void Dropout::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { dropout<decltype(type)>(a); });
}

}  // namespace filigree
