#include "launch/commands/bench_kernels_suite.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/matmul/matmul.hpp"

namespace filigree {
namespace {

Tensor as_f64(const Tensor& values) {
  if (is_floating(values.dtype())) return values.to(DType::f64);
  const Tensor whole = values.to(DType::i64), result = Tensor::empty(values.shape(), DType::f64);
  std::copy_n(whole.data<std::int64_t>(), whole.numel(), result.data<double>());
  return result;
}

double compute_peak(const KernelPeaks& peaks, const KernelMeasurement& row) {
  if (row.dtype == DType::f64) return peaks.f64_gflops;
  if (row.dtype == DType::f32) return peaks.f32_gflops;
  return row.op == Matmul::name ? peaks.bf16_matmul_gflops : peaks.bf16_gflops;
}

}  // namespace

double relative_error(const std::vector<Tensor>& got, const std::vector<Tensor>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Tensor a = as_f64(got[i]), b = as_f64(expected[i]);
    double difference = 0, size = 0;
    for (std::int64_t e = 0; e < a.numel(); ++e) {
      const double x = a.data<double>()[e], y = b.data<double>()[e];
      if (x == y) continue;
      if (!std::isfinite(x - y)) return std::numeric_limits<double>::quiet_NaN();
      difference = std::max(difference, std::abs(x - y));
    }
    for (const double value : b.span<double>())
      if (std::isfinite(value)) size = std::max(size, std::abs(value));
    worst = std::max(worst, size == 0 ? difference : difference / size);
  }
  return worst;
}

void KernelSuite::rate(KernelMeasurement& row, const Work& work, double seconds) const {
  row.seconds = seconds;
  row.gflops = double(work.flops) / seconds * 1e-9;
  row.gbs = double(work.bytes) / seconds * 1e-9;
  row.share_of_peak =
      row.memory_bound ? row.gbs / peaks_->memory_gbs : row.gflops / compute_peak(*peaks_, row);
}

}  // namespace filigree
