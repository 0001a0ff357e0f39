// What must hold on any communicator. The same bodies run with ranks as threads and as MPI
// processes.
#pragma once

#include <memory>
#include <span>

#include "parallel/communicator.hpp"

namespace filigree::testing {

struct ParallelCheck {
  const char* name;
  // Runs on every rank of `world`, of any size; fails through GoogleTest expectations.
  void (*body)(const std::shared_ptr<Communicator>& world);
};
std::span<const ParallelCheck> collective_checks();
std::span<const ParallelCheck> derivative_checks();
std::span<const ParallelCheck> reducer_checks();

// Random numbers that depend on nothing but the arguments.
Tensor random_tensor(const Shape& shape, DType dtype, std::uint64_t stream);
double dot(const Tensor& a, const Tensor& b);  // f64
double sum_over_ranks(Communicator& communicator, double value);

}  // namespace filigree::testing
