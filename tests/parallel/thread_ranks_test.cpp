// Every check of parallel_checks.hpp, with ranks as threads.
#include <gtest/gtest.h>

#include "parallel/run_ranks.hpp"
#include "parallel_checks.hpp"

namespace filigree::testing {
namespace {

std::vector<ParallelCheck> all_checks() {
  std::vector<ParallelCheck> all;
  for (const auto& group : {collective_checks(), derivative_checks(), reducer_checks()})
    all.insert(all.end(), group.begin(), group.end());
  return all;
}

class ThreadRanks : public ::testing::TestWithParam<std::tuple<ParallelCheck, int>> {};

TEST_P(ThreadRanks, Holds) {
  const auto& [check, ranks] = GetParam();
  run_ranks(ranks, check.body);
}

INSTANTIATE_TEST_SUITE_P(Checks, ThreadRanks,
                         ::testing::Combine(::testing::ValuesIn(all_checks()),
                                            ::testing::Range(1, 6)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "On" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(SelfCommunicator, PassesTheSameChecks) {
  for (const ParallelCheck& check : all_checks()) {
    SCOPED_TRACE(check.name);
    check.body(self_communicator("world"));
  }
}

}  // namespace
}  // namespace filigree::testing
