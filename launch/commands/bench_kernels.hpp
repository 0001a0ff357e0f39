// `filigree bench kernels`: what every kernel implementation reaches on this machine.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launch/command.hpp"
#include "runtime/core/dtype.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

Command bench_kernels_command();

// What this machine can do at most, measured: the scale that kernels are held against.
struct MachinePeaks {
  struct Isa {
    std::string name;
    double f32_gflops = 0, f64_gflops = 0;  // multiply-adds on registers
  };
  std::vector<Isa> isas;        // portable first; the last one is used
  double bf16_gemm_gflops = 0;  // oneDNN, 1024^3; 0 when it has no fast one
  double f32_gemm_gflops = 0;   // oneDNN, 1024^3
  double memory_gbs = 0;        // copy, read plus written, of buffers larger than the caches
};
MachinePeaks measure_machine_peaks(int threads);

// The same of an accelerator: what its library and its copies reach.
struct DevicePeaks {
  double copy_gbs = 0;  // read plus written, of buffers larger than its caches
  double f32_gemm_gflops = 0, bf16_gemm_gflops = 0;
};
// With square matrices and copies of these sizes.
struct DevicePeakSizes {
  std::int64_t matrix = 8192, copy_bytes = std::int64_t(1) << 30;
};
DevicePeaks measure_device_peaks(ExecutionContext& context, const DevicePeakSizes& sizes = {});

// What kernels are held against, from either.
struct KernelPeaks {
  double memory_gbs = 0;
  double f64_gflops = 0, f32_gflops = 0;
  double bf16_gflops = 0, bf16_matmul_gflops = 0;
  explicit KernelPeaks(const MachinePeaks& peaks);
  explicit KernelPeaks(const DevicePeaks& peaks);
};

// One implementation on one case.
struct KernelMeasurement {
  std::string op, shape, implementation;
  DType dtype = DType::f32;
  bool picked = false;   // dispatch takes this one
  std::string rejected;  // why it does not apply; the rest is then unset
  double seconds = 0;
  double gflops = 0, gbs = 0;  // executed; gbs counts the least traffic that the call could cause
  double share_of_peak = 0;    // of the peak that limits the op
  bool memory_bound = false;
  // Against the reference: largest difference / largest value, worst output. Of the host only.
  std::optional<double> error;
};
// Every op whose "name shape dtype" contains `filter`.
std::vector<KernelMeasurement> measure_kernels(const KernelPeaks& peaks,
                                               const ExecutionContext& context,
                                               const std::string& filter);
// The ops that have a case.
std::set<std::string> measured_ops();

}  // namespace filigree
