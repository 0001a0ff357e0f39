// Layout equivalence with ranks as MPI processes: mpirun -np 4 tests_layout_mpi.
#include "parallel/mpi_environment.hpp"
#include "tests/layout/layout_equivalence.hpp"

namespace filigree {
namespace {

std::shared_ptr<Communicator>& world() {
  static std::shared_ptr<Communicator> instance;
  return instance;
}

class LayoutEquivalenceMpi : public ::testing::TestWithParam<MeshShape> {};

TEST_P(LayoutEquivalenceMpi, Grid) {
  const MeshShape shape = GetParam();
  ASSERT_LE(shape.world(), world()->size()) << "start with mpirun -np 4";
  for (const RunConfig& config : testing::layout_configs()) {
    const bool takes_part = world()->rank() < shape.world();
    std::shared_ptr<Communicator> grid =
        world()->split(takes_part ? 0 : 1, world()->rank(), takes_part ? "grid" : "idle");
    if (takes_part) testing::expect_same_as_one_rank(std::move(grid), shape, config);
    world()->barrier();
  }
}

INSTANTIATE_TEST_SUITE_P(Processes, LayoutEquivalenceMpi,
                         ::testing::ValuesIn(testing::layout_grids()), testing::grid_name);

}  // namespace
}  // namespace filigree

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  filigree::MpiEnvironment mpi(&argc, &argv);
  filigree::world() = mpi.world(std::chrono::seconds(60));
  const int failed = RUN_ALL_TESTS();
  filigree::world().reset();
  return failed;
}
