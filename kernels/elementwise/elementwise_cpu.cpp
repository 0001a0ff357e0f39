#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

template <class T>
void add(const Add::Arguments& arguments, const ExecutionContext& context) {
  const T *a = arguments.a.data<T>(), *b = arguments.b.data<T>();
  T* y = arguments.y.data<T>();
  for_each_chunk(
      context, arguments.y.numel(), kChunkElements, 1, [=](std::int64_t begin, std::int64_t end) {
        vector_loop(begin, end, [=](std::int64_t i) { y[i] = T(widened(a[i]) + widened(b[i])); });
      });
}

template <class From, class To>
void scale(const Scale::Arguments& a, const ExecutionContext& context) {
  using A = std::common_type_t<Accumulator<From>, Accumulator<To>>;
  const From* x = a.x.data<From>();
  To* y = a.y.data<To>();
  const A factor = static_cast<A>(a.by.defined() ? a.factor * *a.by.data<double>() : a.factor);
  const bool accumulate = a.accumulate;
  for_each_chunk(
      context, a.y.numel(), kChunkElements, 1, [=](std::int64_t begin, std::int64_t end) {
        if (accumulate)
          vector_loop(begin, end, [=](std::int64_t i) {
            y[i] =
                rounded<To>(factor * static_cast<A>(widened(x[i])) + static_cast<A>(widened(y[i])));
          });
        else
          vector_loop(begin, end, [=](std::int64_t i) {
            y[i] = rounded<To>(factor * static_cast<A>(widened(x[i])));
          });
      });
}

template <class T>
double dot(const T* a, const T* b, std::int64_t begin, std::int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < end; ++i)
    sum += static_cast<double>(widened(a[i])) * static_cast<double>(widened(b[i]));
  return sum;
}

template <class T>
double dot(const Tensor& left, const Tensor& right, const ExecutionContext& context) {
  const T *a = left.data<T>(), *b = right.data<T>();
  const std::int64_t size = left.numel(), chunks = (size + kChunkElements - 1) / kChunkElements;
  const Tensor partials = context.empty({chunks}, DType::f64);
  double* partial = partials.data<double>();
  for_each_chunk(context, size, kChunkElements, 1, [=](std::int64_t begin, std::int64_t end) {
    partial[begin / kChunkElements] = dot(a, b, begin, end);
  });
  double sum = 0;
  for (std::int64_t c = 0; c < chunks; ++c) sum += partial[c];
  return sum;
}

template <class T>
void dropout(const Dropout::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  constexpr std::int64_t kPhiloxCost = 32;  // a draw takes as long as streaming so many elements
  const Philox philox(a.seed, RandomPurpose::dropout,
                      static_cast<std::uint64_t>(*a.stream.data<std::int64_t>()));
  const std::int64_t first = a.first_row * columns_of(a.x_TD);
  const A keep = static_cast<A>(1 - a.rate);
  const T* x = a.x_TD.data<T>();
  T* y = a.y_TD.data<T>();
  for_each_chunk(context, a.x_TD.numel(), kChunkElements / kPhiloxCost, kPhiloxCost,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const auto index = static_cast<std::uint64_t>(first + i);
                     y[i] = philox.uniform(index) >= a.rate ? T(widened(x[i]) / keep) : T{};
                   }
                 });
}

}  // namespace

void Add::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.y.dtype(), [&](auto type) { add<decltype(type)>(a, context); });
}

void Scale::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x.dtype(), [&](auto from) {
    visit_floating(a.y.dtype(), [&](auto to) { scale<decltype(from), decltype(to)>(a, context); });
  });
}

void Dot::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.a.dtype(), [&](auto type) {
    *a.sum.data<double>() = dot<decltype(type)>(a.a, a.b, context);
  });
}

void Dropout::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { dropout<decltype(type)>(a, context); });
}

}  // namespace filigree
