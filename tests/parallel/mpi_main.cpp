// The checks of parallel_checks.hpp as real MPI processes, and ranks that stall, die or fail.
//   mpirun -np 4 tests_parallel_mpi checks|pieces|stall|split|leave|stuck|dead|throw
#include <gtest/gtest.h>
#include <mpi.h>
#include <signal.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "parallel/mpi_communicator.hpp"
#include "parallel/mpi_environment.hpp"
#include "parallel_checks.hpp"

namespace filigree::testing {
namespace {

using namespace std::chrono_literals;

// Prints what fails, with the rank, and nothing else.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    ++failures_;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_,
                 result.file_name() ? result.file_name() : "?", result.line_number(),
                 result.message());
  }
  int failures() const { return failures_; }

 private:
  int rank_;
  int failures_ = 0;
};

int run_checks(const std::shared_ptr<Communicator>& world, const FailurePrinter& printer) {
  int failed = 0, run = 0;
  for (const auto& group : {collective_checks(), derivative_checks(), reducer_checks()})
    for (const ParallelCheck& check : group) {
      const double before = printer.failures();
      check.body(world);
      const bool passed = sum_over_ranks(*world, printer.failures() - before) == 0.0;
      failed += passed ? 0 : 1;
      ++run;
      if (world->rank() == 0 && !passed) std::fprintf(stderr, "FAILED: %s\n", check.name);
    }
  if (world->rank() == 0)
    std::printf("%d of %d checks passed on %d ranks\n", run - failed, run, world->size());
  return failed == 0 ? 0 : 1;
}

// Every operation in pieces of at most 4099 elements, as if MPI could not count further.
std::shared_ptr<Communicator> world_in_pieces() {
  MpiWorld::Options options;
  options.timeout = 20s;
  options.max_count = 4099;
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return mpi_communicator(std::make_shared<MpiWorld>(options), comm, "world");
}

// A rank that is stuck inside MPI cannot time out by itself: only its watchdog can tell.
void wait_inside_mpi() {
  MpiWorld::Options options;
  options.timeout = 2s;
  const MpiWorld world(options);
  CollectiveCall call;
  call.operation = "blocking barrier";
  const Watchdog::Guard guard(*world.watchdog, call, "world");
  if (world.rank == 2) std::this_thread::sleep_for(60s);
  MPI_Barrier(MPI_COMM_WORLD);
}

// Rank 2 is the one that misbehaves.
int misbehave(const std::string& mode, MpiEnvironment& environment) {
  // A dead rank is the launcher's to notice, long before any timeout.
  const auto world = environment.world(mode == "dead" ? 60s : 2s);
  world->barrier();
  const Tensor tensor = Tensor::zeros({100}, DType::f32);
  if (world->rank() == 2) {
    if (mode == "dead") raise(SIGKILL);
    if (mode == "throw") throw UserError("shard 7 is truncated");
    std::this_thread::sleep_for(60s);
  }
  if (mode == "leave") return 0;
  if (mode == "split")
    world->split(0, 0, "never");
  else
    world->all_reduce(tensor);
  return 0;
}

int run(const std::string& mode, MpiEnvironment& environment, const FailurePrinter& printer) {
  if (mode == "checks") return run_checks(environment.world(20s), printer);
  if (mode == "pieces") return run_checks(world_in_pieces(), printer);
  if (mode == "stuck") {
    wait_inside_mpi();
    return 0;
  }
  return misbehave(mode, environment);
}

}  // namespace
}  // namespace filigree::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  filigree::MpiEnvironment environment(&argc, &argv);
  int rank = 0;
  if (filigree::MpiEnvironment::launched_by_mpi()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  auto* printer = new filigree::testing::FailurePrinter(rank);
  listeners.Append(printer);
  try {
    return filigree::testing::run(argc > 1 ? argv[1] : "checks", environment, *printer);
  } catch (const filigree::Error& error) {
    std::fprintf(stderr, "[rank %d] %s\n", rank, error.what());
    environment.abort(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "[rank %d] %s\n", rank, error.what());
    environment.abort(filigree::exit_code::kInternalError);
  }
}
