// What the tests of attention share: its tensors, poisoned outputs, and the bound that fast
// implementations are held to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/attention.hpp"
#include "runtime/core/random.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree {

inline AttentionShape shape_of(std::int64_t batch, std::int64_t query_length,
                               std::int64_t key_length, std::int64_t query_heads,
                               std::int64_t kv_heads, std::int64_t head_dim,
                               std::int64_t query_offset = 0, bool causal = true) {
  return {batch,        query_length, key_length,
          query_heads,  kv_heads,     head_dim,
          query_offset, causal,       1.0 / std::sqrt(double(head_dim))};
}

inline std::string describe(const AttentionShape& s) {
  return str("B", s.batch, " Sq", s.query_length, " Sk", s.key_length, " H", s.query_heads, " G",
             s.kv_heads, " K", s.head_dim, " offset ", s.query_offset,
             s.causal ? " causal" : " full");
}

inline Tensor random_tensor(const Shape& shape, DType dtype, std::uint64_t stream,
                            std::uint64_t seed = 11) {
  const Philox random(seed, RandomPurpose::test, stream);
  Tensor values = Tensor::empty(shape, DType::f64);
  for (std::int64_t i = 0; i < values.numel(); ++i) values.data<double>()[i] = random.normal(i);
  return values.to(dtype);
}

inline Tensor nan_tensor(const Shape& shape, DType dtype) {
  Tensor values = Tensor::empty(shape, DType::f64);
  for (double& value : values.span<double>()) value = std::numeric_limits<double>::quiet_NaN();
  return values.to(dtype);
}

// The tensors of one attention, forward and backward. Inputs are drawn in `rounded_to` and then
// stored in `dtype`, so that a computation in a wider type starts from the same numbers.
struct Problem {
  Problem(const AttentionShape& s, DType dtype, DType rounded_to, std::uint64_t seed = 11,
          const AttentionPattern& reads = {})
      : shape(s), pattern(reads) {
    const Shape query{s.batch * s.query_length, s.query_heads * s.head_dim};
    const Shape key{s.batch * s.key_length, s.kv_heads * s.head_dim};
    const auto input = [&](const Shape& size, std::uint64_t stream) {
      return random_tensor(size, rounded_to, stream, seed).to(dtype);
    };
    q = input(query, 1), k = input(key, 2), v = input(key, 3), d_o = input(query, 4);
    o = nan_tensor(query, dtype), dq = nan_tensor(query, dtype);
    dk = nan_tensor(key, dtype), dv = nan_tensor(key, dtype);
    lse = nan_tensor({s.batch, s.query_heads, s.query_length}, accumulation_dtype(dtype));
    if (!reads.bias_BHNJ.defined()) return;
    const DType accumulation = accumulation_dtype(dtype);
    pattern.bias_BHNJ = reads.bias_BHNJ.to(accumulation_dtype(rounded_to)).to(accumulation);
    dbias = nan_tensor(reads.bias_BHNJ.shape(), accumulation);
  }

  void forward(const char* implementation, int threads = 1) {
    run<AttentionForward>(implementation, threads, {shape, q, k, v, o, lse, pattern});
  }
  void backward(const char* implementation, int threads = 1) {
    run<AttentionBackward>(implementation, threads,
                           {shape, q, k, v, o, lse, d_o, dq, dk, dv, pattern, dbias});
  }
  std::vector<std::pair<const char*, Tensor>> outputs() const {
    std::vector<std::pair<const char*, Tensor>> result = {
        {"o", o}, {"lse", lse}, {"dq", dq}, {"dk", dk}, {"dv", dv}};
    if (dbias.defined()) result.emplace_back("dbias", dbias);
    return result;
  }

  AttentionShape shape;
  AttentionPattern pattern;
  Tensor q, k, v, d_o, o, lse, dq, dk, dv, dbias;

 private:
  // For an accelerator's implementation arguments go there and outputs come back.
  template <class Op>
  void run(const std::string& implementation, int threads, typename Op::Arguments arguments) {
    const auto& known = kernel_table().implementations<Op>();
    const auto named = [&](const Implementation<Op>& x) { return x.name == implementation; };
    const bool on_host = std::find_if(known.begin(), known.end(), named)->device == DeviceKind::cpu;
    ExecutionContext context = on_host ? ExecutionContext{} : testing::accelerator()(threads);
    if (on_host) context.num_threads = threads;
    context.forced_kernels[std::string(Op::name)] = implementation;
    std::vector<std::pair<Tensor, Tensor>> written;
    const auto placed = [&](Tensor& tensor) { tensor = context.upload(tensor); };
    const auto written_to = [&](Tensor& tensor) {
      const Tensor host = tensor;
      placed(tensor);
      if (host.defined()) written.emplace_back(tensor, host);
    };
    for (Tensor* tensor : inputs_of(arguments)) placed(*tensor);
    for (Tensor* tensor : outputs_of(arguments)) written_to(*tensor);
    dispatch<Op>(arguments, context);
    if (on_host) return;
    for (const auto& [there, host] : written) host.copy_from(context.download(there));
  }
  static std::vector<Tensor*> inputs_of(AttentionPattern& p) {
    BlockLists& lists = p.lists;
    return {&lists.counts_BHN,
            &lists.indices_BHNJ,
            &lists.transposed_counts_BHM,
            &lists.transposed_indices_BHMN,
            &p.bias_BHNJ,
            &p.document_begin_T,
            &p.document_end_T};
  }
  static std::vector<Tensor*> inputs_of(AttentionForward::Arguments& a) {
    std::vector<Tensor*> result = inputs_of(a.pattern);
    result.insert(result.end(), {&a.q_THK, &a.k_TGK, &a.v_TGK});
    return result;
  }
  static std::vector<Tensor*> inputs_of(AttentionBackward::Arguments& a) {
    std::vector<Tensor*> result = inputs_of(a.pattern);
    result.insert(result.end(), {&a.q_THK, &a.k_TGK, &a.v_TGK, &a.o_THK, &a.lse_BHS, &a.do_THK});
    return result;
  }
  static std::vector<Tensor*> outputs_of(AttentionForward::Arguments& a) {
    return {&a.o_THK, &a.lse_BHS};
  }
  static std::vector<Tensor*> outputs_of(AttentionBackward::Arguments& a) {
    return {&a.dq_THK, &a.dk_TGK, &a.dv_TGK, &a.dbias_BHNJ};
  }
};

// The implementations that are held to the reference. cuDNN's are in tests/gpu, at shapes that it
// has plans for.
inline std::vector<const char*> fast_implementations(const AttentionShape& shape, DType dtype,
                                                     const AttentionPattern& pattern = {}) {
  const Problem x(shape, dtype, dtype, 11, pattern);
  std::vector<const char*> names;
  for (const auto& candidate : kernel_table().implementations<AttentionForward>())
    if (candidate.name != "reference" && candidate.name != "cudnn" &&
        !candidate.reject({shape, x.q, x.k, x.v, x.o, x.lse, x.pattern}, ExecutionContext{}))
      names.push_back(candidate.name.data());
  return names;
}

// Forward and backward. The backward starts from the o and lse that `implementation` itself
// produced.
inline Problem solved(const AttentionShape& shape, DType dtype, DType rounded_to,
                      const char* implementation, int threads = 1, std::uint64_t seed = 11,
                      const AttentionPattern& pattern = {}) {
  Problem problem(shape, dtype, rounded_to, seed, pattern);
  problem.forward(implementation, threads);
  problem.backward(implementation, threads);
  return problem;
}

inline double difference(double x, double y) {
  return x == y ? 0.0 : std::abs(x - y);
}  // infinities may agree

inline double largest_difference(const Tensor& x, const Tensor& y) {
  const Tensor a = x.to(DType::f64), b = y.to(DType::f64);
  double largest = 0;
  for (std::int64_t e = 0; e < a.numel(); ++e)
    largest = std::max(largest, difference(a.data<double>()[e], b.data<double>()[e]));
  return largest;
}

inline double unit_in_last_place(double value, DType dtype) {
  const int digits = dtype == DType::f64 ? 52 : dtype == DType::f32 ? 23 : 7;
  return value == 0.0 || !std::isfinite(value) ? 0.0 : std::ldexp(1.0, std::ilogb(value) - digits);
}

inline double root_mean_square_difference(const Tensor& x, const Tensor& y) {
  const Tensor a = x.to(DType::f64), b = y.to(DType::f64);
  double sum = 0;
  for (std::int64_t e = 0; e < a.numel(); ++e)
    sum += std::pow(difference(a.data<double>()[e], b.data<double>()[e]), 2);
  return a.numel() == 0 ? 0.0 : std::sqrt(sum / double(a.numel()));
}

// The errors of plain loops in one output.
struct PlainError {
  double largest = 0, root_mean_square = 0;
};

// Largest over several draws of the inputs: the extremes of a single draw are luck. f64 loops are
// the truth, so their error is taken from f32 loops times the ratio of the precisions.
inline std::vector<PlainError> plain_errors(const AttentionShape& shape, DType dtype,
                                            const AttentionPattern& pattern = {},
                                            std::uint64_t draws = 8) {
  const DType plain_dtype = dtype == DType::f64 ? DType::f32 : dtype;
  const double ratio = dtype == DType::f64 ? 0x1.0p-29 : 1.0;
  std::vector<PlainError> errors(pattern.bias_BHNJ.defined() ? 6 : 5);
  for (std::uint64_t seed = 11; seed < 11 + draws; ++seed) {
    const auto plain =
        solved(shape, plain_dtype, plain_dtype, "reference", 1, seed, pattern).outputs();
    const auto truth =
        solved(shape, DType::f64, plain_dtype, "reference", 1, seed, pattern).outputs();
    for (std::size_t i = 0; i < errors.size(); ++i) {
      const Tensor &x = plain[i].second, &y = truth[i].second;
      errors[i].largest = std::max(errors[i].largest, ratio * largest_difference(x, y));
      errors[i].root_mean_square =
          std::max(errors[i].root_mean_square, ratio * root_mean_square_difference(x, y));
    }
  }
  return errors;
}

// At most twice the error of plain loops, plus one unit in the last place of the row's largest
// element: each element against their largest error, the whole against their root mean square.
inline void expect_within(const Tensor& got, const Tensor& truth, const PlainError& plain,
                          const std::string& what) {
  const Tensor values = got.to(DType::f64);
  const std::int64_t columns = truth.dim(-1);
  double unit = 0;
  for (std::int64_t begin = 0; begin < truth.numel(); begin += columns) {
    double error = 0, largest = 0;
    for (std::int64_t e = begin; e < begin + columns; ++e) {
      const double exact = truth.data<double>()[e], value = values.data<double>()[e];
      ASSERT_FALSE(std::isnan(value)) << what << " element " << e;
      error = std::max(error, difference(value, exact));
      largest = std::max(largest, std::isfinite(exact) ? std::abs(exact) : 0.0);
    }
    unit = std::max(unit, unit_in_last_place(largest, got.dtype()));
    ASSERT_LE(error, 2 * plain.largest + unit_in_last_place(largest, got.dtype()))
        << what << " at element " << begin;
  }
  EXPECT_LE(root_mean_square_difference(got, truth), 2 * plain.root_mean_square + unit) << what;
}

}  // namespace filigree
