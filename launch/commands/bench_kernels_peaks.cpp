#include <array>
#include <cstring>

#include "kernels/cpu/parallel_for.hpp"
#include "kernels/cpu/tile_kernels.hpp"
#include "kernels/matmul/matmul.hpp"
#include "launch/commands/bench_kernels.hpp"
#include "launch/commands/bench_timing.hpp"

namespace filigree {

namespace {

// All threads at once, since a processor may clock lower when all cores work.
template <class T>
double register_peak(const CpuKernels& kernels, int threads) {
  constexpr std::int64_t kIterations = 200'000;
  std::int64_t flops = 0;
  const auto run = [&] {
    parallel_for(threads, threads, [&](std::int64_t task, int) {
      std::array<T, kTileLanes<T>> sink;
      sink.fill(T(0.5));
      const std::int64_t done = kernels.of<T>().peak(kIterations, sink.data());
      if (task == 0) flops = done;
    });
  };
  const double seconds = fastest_call(0.1, run);
  return threads * double(flops) / seconds * 1e-9;
}

// Blocks of a copy large enough to leave the caches.
double copy_bandwidth(int threads) {
  constexpr std::int64_t kBytes = std::int64_t(128) << 20, kBlock = std::int64_t(1) << 20;
  const Tensor from = Tensor::zeros({kBytes}, DType::u8), to = Tensor::zeros({kBytes}, DType::u8);
  const double seconds = fastest_call(0.3, [&] {
    parallel_for(kBytes / kBlock, threads, [&](std::int64_t block, int) {
      std::memcpy(to.data<std::uint8_t>() + block * kBlock,
                  from.data<std::uint8_t>() + block * kBlock, kBlock);
    });
  });
  return 2 * double(kBytes) / seconds * 1e-9;
}

// 0 where oneDNN does not take this dtype on this processor.
double onednn_rate(DType dtype, int threads) {
  constexpr std::int64_t kSize = 1024;
  ExecutionContext context;
  context.num_threads = threads;
  const Tensor operand = Tensor::zeros({kSize, kSize}, dtype);
  const Matmul::Arguments arguments{operand, operand, Tensor::zeros({kSize, kSize}, dtype)};
  const auto& chosen = select_implementation<Matmul>(arguments, context);
  if (chosen.name != "onednn") return 0;
  const double seconds = fastest_call(0.2, [&] { chosen.run(arguments, context); });
  return double(Matmul::work(arguments).flops) / seconds * 1e-9;
}

}  // namespace

MachinePeaks measure_machine_peaks(int threads) {
  MachinePeaks peaks;
  for (const CpuKernels* const* set = available_cpu_kernels(); *set != nullptr; ++set)
    peaks.isas.push_back(
        {(*set)->isa, register_peak<float>(**set, threads), register_peak<double>(**set, threads)});
  peaks.memory_gbs = copy_bandwidth(threads);
  peaks.f32_gemm_gflops = onednn_rate(DType::f32, threads);
  peaks.bf16_gemm_gflops = onednn_rate(DType::bf16, threads);
  return peaks;
}

DevicePeaks measure_device_peaks(ExecutionContext& context, const DevicePeakSizes& sizes) {
  DevicePeaks peaks;
  {
    const Tensor from = context.zeros({sizes.copy_bytes}, DType::u8);
    const Tensor to = context.empty({sizes.copy_bytes}, DType::u8);
    const double seconds = fastest_call(0.3, context, [&] { context.copy(from, to); });
    peaks.copy_gbs = 2 * double(sizes.copy_bytes) / seconds * 1e-9;
  }
  const auto gemm_gflops = [&](DType dtype) {
    const Shape square{sizes.matrix, sizes.matrix};
    const Tensor operand = context.zeros(square, dtype);
    const Matmul::Arguments arguments{operand, operand, context.zeros(square, dtype)};
    const auto& chosen = select_implementation<Matmul>(arguments, context);
    const double seconds = fastest_call(0.3, context, [&] { chosen.run(arguments, context); });
    return double(Matmul::work(arguments).flops) / seconds * 1e-9;
  };
  peaks.f32_gemm_gflops = gemm_gflops(DType::f32);
  peaks.bf16_gemm_gflops = gemm_gflops(DType::bf16);
  return peaks;
}

}  // namespace filigree
