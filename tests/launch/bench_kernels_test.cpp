#include "launch/commands/bench_kernels.hpp"

#include <gtest/gtest.h>

#include "kernels/dispatch.hpp"

namespace filigree {
namespace {

TEST(BenchKernels, HasACaseOfEveryOp) {
  std::set<std::string> registered;
  for (const auto& [op, implementations] : kernel_table().names()) registered.insert(op);
  EXPECT_EQ(measured_ops(), registered);
}

}  // namespace
}  // namespace filigree
