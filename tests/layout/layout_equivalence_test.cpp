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

INSTANTIATE_TEST_SUITE_P(Threads, LayoutEquivalence,
                         ::testing::Values(MeshShape{}, MeshShape{.data = 2}, MeshShape{.data = 4},
                                           MeshShape{.tensor = 2}, MeshShape{.tensor = 4},
                                           MeshShape{.data = 2, .tensor = 2}),
                         [](const auto& info) {
                           return str("dp", info.param.data, "tp", info.param.tensor);
                         });

}  // namespace
}  // namespace filigree
