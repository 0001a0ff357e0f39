// Ranks as threads that have a GPU each, emulated or not.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>

#ifdef FILIGREE_SIMT
#include <simt/launch.hpp>
#endif

#include "kernels/elementwise/elementwise.hpp"
#include "parallel/mesh.hpp"
#include "parallel/nccl_communicator.hpp"
#include "parallel/run_ranks.hpp"
#include "runtime/cuda/cuda_device.hpp"

namespace filigree::testing {

using World = std::shared_ptr<Communicator>;

// The emulator starts anew with so many GPUs, and orders blocks, threads and streams by `seed`. A
// machine has those that it has: where they are fewer than ranks, NCCL must be told to share them.
inline void fresh_gpus([[maybe_unused]] int gpus, [[maybe_unused]] std::uint64_t seed,
                       [[maybe_unused]] bool aborts_are_noticed = false) {
#ifdef FILIGREE_SIMT
  simt::Options options;
  options.seed = seed;
  options.devices = gpus;
  options.aborts_are_noticed = aborts_are_noticed;
  simt::reset(options);
#endif
}

struct GpuRank {
  World host;
  ExecutionContext context;
  World world;
  int rank() const { return world->rank(); }
};

// Runs `body` on one thread and one GPU per rank.
inline void run_gpu_ranks(int ranks, const std::function<void(GpuRank&)>& body,
                          std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  run_ranks(ranks, [&](const World& host) {
    GpuRank rank{host, make_cuda_context(gpu_of_local_rank(host->rank(), ranks)), nullptr};
    rank.world = nccl_communicator(host, rank.context, timeout);
    body(rank);
  });
}

inline Tensor filled(const GpuRank& rank, std::int64_t count, float value) {
  const Tensor host = Tensor::empty({count}, DType::f32);
  for (float& element : host.span<float>()) element = value;
  return rank.context.upload(host);
}

inline Tensor doubled(GpuRank& rank, const Tensor& x) {
  const Tensor y = rank.context.empty(x.shape(), x.dtype());
  dispatch<Add>({x, x, y}, rank.context);
  return y;
}

// Every value of a tensor of this rank's GPU, which are all the same.
inline float value_of(const GpuRank& rank, const Tensor& x) {
  const Tensor host = rank.context.download(x);
  for (const float value : host.span<float>()) EXPECT_EQ(value, host.span<float>().front());
  return host.span<float>().front();
}

// A sum of what the first operation leaves, between work before and behind it.
inline std::unique_ptr<CapturedWork> captured_sum(GpuRank& rank, const Tensor& x) {
  Stream& stream = *rank.context.stream;
  stream.begin_capture();
  dispatch<Scale>({.x = x, .y = x, .factor = 2.0}, rank.context);
  Pending sum = rank.world->start_all_reduce(x);
  sum.wait();
  dispatch<Scale>({.x = x, .y = x, .factor = 0.5}, rank.context);
  return stream.end_capture();
}

}  // namespace filigree::testing
