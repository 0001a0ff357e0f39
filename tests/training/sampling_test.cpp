#include "runtime/training/sampling.hpp"

#include <gtest/gtest.h>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

TEST(Sampling, RefusesOptionsOutOfRange) {
  for (const SamplingOptions& bad :
       {SamplingOptions{.temperature = 0.0}, SamplingOptions{.top_k = -1},
        SamplingOptions{.top_p = 0.0}, SamplingOptions{.top_p = 1.5}})
    EXPECT_THROW(check_sampling(bad), UserError);
}

}  // namespace
}  // namespace filigree
