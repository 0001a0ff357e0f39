// Layout equivalence with ranks as threads.
#include "tests/layout/layout_equivalence.hpp"

#include "parallel/run_ranks.hpp"

namespace filigree {
namespace {

class LayoutEquivalence : public ::testing::TestWithParam<MeshShape> {};

TEST_P(LayoutEquivalence, Grid) {
  const MeshShape shape = GetParam();
  for (const RunConfig& config : testing::layout_configs())
    run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
      testing::expect_same_as_one_rank(std::move(world), shape, config);
    });
}

INSTANTIATE_TEST_SUITE_P(Threads, LayoutEquivalence, ::testing::ValuesIn(testing::layout_grids()),
                         testing::grid_name);

}  // namespace
}  // namespace filigree
