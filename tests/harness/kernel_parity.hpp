// Every implementation of an op against its f64 reference, with an error bound taken from a plain
// implementation of the same precision.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/dispatch.hpp"
#include "tests/harness/tensor_source.hpp"

namespace filigree::testing {

template <class Op>
using Build = std::function<typename Op::Arguments(TensorSource&)>;

struct ParityOptions {
  std::vector<DType> dtypes = {DType::f64, DType::f32, DType::bf16};
  std::vector<int> threads = {1, 2, 3};  // all must give the bits of the first
};

// The spacing of `dtype`'s values at `magnitude`; 0 at 0.
inline double unit_in_last_place(DType dtype, double magnitude) {
  if (magnitude == 0 || !std::isfinite(magnitude)) return 0;
  const int digits = dtype == DType::f64 ? 52 : dtype == DType::f32 ? 23 : 7;
  return std::ldexp(1.0, std::ilogb(magnitude) - digits);
}

// Differences of one output from the truth, row by row (rows of the last dim; a tensor of one dim
// is one row).
struct RowErrors {
  std::vector<double> largest;    // per row: the largest difference
  std::vector<double> magnitude;  // per row: the largest true magnitude
  std::vector<std::int64_t> column;
  double root_mean_square = 0, true_root_mean_square = 0;
};

// Infinities and NaNs agree when they are the same; a difference that is not finite counts as
// infinite.
inline double difference(double got, double truth) {
  if (got == truth || (std::isnan(got) && std::isnan(truth))) return 0;
  const double error = std::abs(got - truth);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

inline RowErrors row_errors(const Tensor& got, const Tensor& truth) {
  const Tensor g = got.to(DType::f64), t = truth.to(DType::f64);
  const std::int64_t columns = truth.rank() == 0 ? 1 : truth.dim(-1);
  RowErrors result;
  if (truth.numel() == 0) return result;
  for (std::int64_t begin = 0; begin < truth.numel(); begin += columns) {
    double largest = 0, magnitude = 0;
    std::int64_t worst = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      const double value = t.data<double>()[begin + c];
      const double error = difference(g.data<double>()[begin + c], value);
      if (error > largest) worst = c;
      largest = std::max(largest, error);
      if (std::isfinite(value)) {
        magnitude = std::max(magnitude, std::abs(value));
        result.true_root_mean_square += value * value;
      }
      result.root_mean_square += error * error;
    }
    result.largest.push_back(largest);
    result.magnitude.push_back(magnitude);
    result.column.push_back(worst);
  }
  const auto count = static_cast<double>(truth.numel());
  result.root_mean_square = std::sqrt(result.root_mean_square / count);
  result.true_root_mean_square = std::sqrt(result.true_root_mean_square / count);
  return result;
}

// Makes a context on the accelerator that this test program was linked for; empty: there is none,
// and no implementation for one is in the table. `run` numbers the runs of one comparison, which an
// emulator takes to order them differently.
inline std::function<ExecutionContext(int run)>& accelerator() {
  static std::function<ExecutionContext(int)> make;
  return make;
}

// Outputs of one call of one implementation on arguments from `build`, in host memory. `run` is the
// number of threads on the CPU.
template <class Op>
std::vector<TensorSource::Output> run_implementation(const Build<Op>& build, std::string_view name,
                                                     DType dtype, bool is_truth, int run,
                                                     DeviceKind device = DeviceKind::cpu) {
  const bool on_host = device == DeviceKind::cpu;
  ExecutionContext context = on_host ? ExecutionContext{} : accelerator()(run);
  TensorSource source(dtype, is_truth, on_host ? nullptr : &context);
  const typename Op::Arguments arguments = build(source);
  if (on_host) {
    context.allocator = source.allocator();
    context.num_threads = run;
  }
  context.forced_kernels[std::string(Op::name)] = std::string(name);
  dispatch<Op>(arguments, context);
  return source.outputs();
}

// Relative to the magnitude of its row, the error of the plain implementation in a typical row.
inline double typical_error(const RowErrors& plain) {
  double sum = 0, rows = 0;
  for (std::size_t row = 0; row < plain.largest.size(); ++row) {
    if (plain.magnitude[row] == 0) continue;
    const double relative = plain.largest[row] / plain.magnitude[row];
    sum += relative * relative;
    ++rows;
  }
  return rows == 0 ? 0 : std::sqrt(sum / rows);
}

// Twice the error of `plain` plus one unit in the last place of the row's largest value, per row;
// and the same for the root mean square over the whole. A row in which plain was exact by luck is
// granted the error of a typical row. `scale` converts the plain errors to the precision under
// test.
inline void expect_within(const TensorSource::Output& got, const Tensor& truth,
                          const RowErrors& plain, double scale, const std::string& what) {
  const double typical = typical_error(plain);
  const double times = got.as == DType::f64 ? 3 : 2;
  const RowErrors errors = row_errors(got.tensor, truth);
  for (std::size_t row = 0; row < errors.largest.size(); ++row) {
    const double plain_error = std::max(plain.largest[row], typical * plain.magnitude[row]);
    const double allowed =
        times * scale * plain_error + unit_in_last_place(got.as, errors.magnitude[row]);
    if (errors.largest[row] <= allowed) continue;
    const std::int64_t columns = truth.rank() == 0 ? 1 : truth.dim(-1);
    const std::int64_t element = static_cast<std::int64_t>(row) * columns + errors.column[row];
    ADD_FAILURE() << what << ", output " << got.name << " " << truth.shape() << " row " << row
                  << " column " << errors.column[row] << ": got "
                  << got.tensor.to(DType::f64).data<double>()[element] << ", expected "
                  << truth.data<double>()[element] << ", off by " << errors.largest[row]
                  << ", allowed " << allowed;
    return;
  }
  const double allowed = times * scale * plain.root_mean_square +
                         unit_in_last_place(got.as, errors.true_root_mean_square);
  EXPECT_LE(errors.root_mean_square, allowed)
      << what << ", output " << got.name << ": root mean square error over the whole";
}

inline void expect_equal_bits(const TensorSource::Output& a, const TensorSource::Output& b,
                              const std::string& what) {
  ASSERT_EQ(a.tensor.bytes(), b.tensor.bytes()) << what;
  EXPECT_TRUE(a.tensor.bytes() == 0 || std::memcmp(a.tensor.raw(), b.tensor.raw(),
                                                   static_cast<std::size_t>(a.tensor.bytes())) == 0)
      << what << ", output " << a.name
      << ": bits depend on the number of threads, or differ between runs";
}

// The implementations of Op that take these arguments.
template <class Op>
std::vector<Implementation<Op>> accepting_implementations(const Build<Op>& build, DType dtype) {
  TensorSource source(dtype, false);
  const typename Op::Arguments arguments = build(source);
  const ExecutionContext context;
  std::vector<Implementation<Op>> accepting;
  for (const Implementation<Op>& candidate : kernel_table().implementations<Op>())
    if (!candidate.reject(arguments, context)) accepting.push_back(candidate);
  return accepting;
}

// The f64 reference has no error against itself, so the f64 bound comes from the f32 reference: its
// error on the same inputs rounded to f32, scaled by the ratio of the two precisions, and once more
// since the reference, here the truth, has that error too.
template <class Op>
void expect_parity(const Build<Op>& build, const ParityOptions& options = {}) {
  for (const DType dtype : options.dtypes) {
    const DType plain_dtype = dtype == DType::f64 ? DType::f32 : dtype;
    const double scale = dtype == DType::f64 ? 0x1.0p-29 : 1.0;
    const auto truth = run_implementation<Op>(build, "reference", dtype, true, 1);
    const auto plain_truth = run_implementation<Op>(build, "reference", plain_dtype, true, 1);
    const auto plain = run_implementation<Op>(build, "reference", plain_dtype, false, 1);
    for (const Implementation<Op>& candidate : accepting_implementations<Op>(build, dtype)) {
      const std::string what = str(Op::name, " '", candidate.name, "' in ", name_of(dtype));
      const auto run = [&](int number) {
        return run_implementation<Op>(build, candidate.name, dtype, false, number,
                                      candidate.device);
      };
      const auto got = run(options.threads.front());
      for (std::size_t i = 0; i < got.size(); ++i)
        expect_within(got[i], truth[i].tensor, row_errors(plain[i].tensor, plain_truth[i].tensor),
                      scale, what);
      for (std::size_t k = 1; k < options.threads.size(); ++k) {
        const auto again = run(options.threads[k]);
        for (std::size_t i = 0; i < got.size(); ++i) expect_equal_bits(got[i], again[i], what);
      }
    }
  }
}

// Every implementation gives the bits of the reference: for what is defined bit by bit.
template <class Op>
void expect_reference_bits(const Build<Op>& build, const std::vector<DType>& dtypes) {
  for (const DType dtype : dtypes) {
    const auto expected = run_implementation<Op>(build, "reference", dtype, false, 1);
    for (const Implementation<Op>& candidate : accepting_implementations<Op>(build, dtype)) {
      for (const int number : {1, 2}) {
        const auto got =
            run_implementation<Op>(build, candidate.name, dtype, false, number, candidate.device);
        for (std::size_t i = 0; i < got.size(); ++i)
          expect_equal_bits(got[i], expected[i],
                            str(Op::name, " '", candidate.name, "' in ", name_of(dtype)));
      }
    }
  }
}

// The names of the implementations for the CPU, to state in a test what was covered.
template <class Op>
std::vector<std::string> implementation_names() {
  std::vector<std::string> names;
  for (const Implementation<Op>& candidate : kernel_table().implementations<Op>())
    if (candidate.device == DeviceKind::cpu) names.emplace_back(candidate.name);
  return names;
}

}  // namespace filigree::testing
