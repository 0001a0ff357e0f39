// Every call to the file system that a save makes fails once, in every way; and the process dies
// before every one of them.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/checkpoint/checkpoint_helpers.hpp"
#include "tests/harness/faulty_file_system.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;
using testing::FaultyFileSystem;

GlobalTensor weights(std::int64_t step) {
  return {"parameters/w", random_bits({24, 64}, DType::f32, "w", static_cast<std::uint64_t>(step))};
}

// What failed, or "".
std::string save(const fs::path& folder, std::int64_t step, FileSystem& system, int ranks = 1) {
  std::string failure;
  run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
    try {
      save_checkpoint(folder, info_of(step, 1, ranks),
                      {shard_of(weights(step), 0, ranks, world->rank())}, *world, {.keep = 2},
                      system);
    } catch (const UserError& error) {
      if (world->rank() == 0) failure = error.what();
    }
  });
  return failure;
}

std::int64_t newest_intact(const fs::path& folder) {
  const auto newest = newest_checkpoint(folder, no_warning);
  if (!newest) return 0;
  const CheckpointReader reader(*newest);
  expect_reads(reader, whole_of(weights(reader.info().step)));
  return reader.info().step;
}

// Steps 1, 2 and 3 are there, so that a save of step 4 also removes.
void fill(const fs::path& folder) {
  for (const std::int64_t step : {1, 2, 3})
    run_ranks(1, [&](std::shared_ptr<Communicator> world) {
      save_checkpoint(folder, info_of(step), {whole_of(weights(step))}, *world, {.keep = 9});
    });
}

std::int64_t calls_of_a_save(int ranks) {
  const TemporaryFolder scratch;
  fill(scratch.path());
  FaultyFileSystem system;
  EXPECT_EQ(save(scratch.path(), 4, system, ranks), "");
  return system.calls();
}

class InjectedFault : public ::testing::TestWithParam<int> {};

TEST_P(InjectedFault, OfAnyCallIsReportedAndLosesNothing) {
  const int ranks = GetParam();
  const std::int64_t calls = calls_of_a_save(ranks);
  EXPECT_GT(calls, 20);
  int failed = 0;
  for (const int error : {EIO, ENOSPC}) {
    for (std::int64_t call = 1; call <= calls; ++call) {
      const TemporaryFolder scratch;
      fill(scratch.path());
      FaultyFileSystem system;
      system.fail_from = system.fail_to = call;
      system.error = error;
      const std::string failure = save(scratch.path(), 4, system, ranks);
      failed += failure.empty() ? 0 : 1;
      if (!failure.empty())
        expect_mentions(failure, {"checkpoint of step 4 was not saved", "rank ", scratch.path()});
      EXPECT_EQ(newest_intact(scratch.path()), failure.empty() ? 4 : 3) << "call " << call;
      // Whatever was left behind, the next save succeeds and clears it away.
      EXPECT_EQ(save(scratch.path(), 5, system, ranks), "");
      EXPECT_EQ(newest_intact(scratch.path()), 5);
      EXPECT_EQ(names_in(scratch.path()).size(), 2u) << "call " << call;
    }
  }
  EXPECT_GT(failed, 20);
}

INSTANTIATE_TEST_SUITE_P(Ranks, InjectedFault, ::testing::Values(1, 3));

TEST(InjectedFaults, ADiskThatFailsForGoodKeepsTheOldCheckpoint) {
  for (const char* call : {"write", "sync", "allocate", "rename", "make_folder", "close"}) {
    const TemporaryFolder scratch;
    fill(scratch.path());
    FaultyFileSystem system;
    system.fail_from = 1;
    system.fail_to = 1 << 20;
    system.only = call;
    EXPECT_NE(save(scratch.path(), 4, system, 2), "") << call;
    EXPECT_EQ(newest_intact(scratch.path()), 3) << call;
  }
}

TEST(InjectedFaults, ShortAndInterruptedTransfersAreContinued) {
  const TemporaryFolder scratch;
  FaultyFileSystem system;
  system.longest_transfer = 100;
  system.interrupted_every = 3;
  EXPECT_EQ(save(scratch.path(), 4, system, 2), "");
  EXPECT_EQ(newest_intact(scratch.path()), 4);
}

TEST(InjectedFaults, AWriteThatMovesNothingDoesNotHang) {
  class Stuck : public FileSystem {
    ssize_t write(int, const void*, std::size_t, std::int64_t) override { return 0; }
  } system;
  const TemporaryFolder scratch;
  expect_mentions(save(scratch.path(), 4, system), {"cannot write", "rank_00000.h5"});
}

TEST(InjectedDeath, BeforeAnyCallLeavesACompleteCheckpoint) {
  const std::int64_t calls = calls_of_a_save(1);
  int published = 0;
  for (std::int64_t call = 1; call <= calls; ++call) {
    const TemporaryFolder scratch;
    fill(scratch.path());
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      FaultyFileSystem system;
      system.die_at = call;
      save(scratch.path(), 4, system);
      ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "call " << call;
    const std::int64_t newest = newest_intact(scratch.path());
    EXPECT_TRUE(newest == 3 || newest == 4) << "call " << call;
    published += newest == 4 ? 1 : 0;
    EXPECT_EQ(save(scratch.path(), 5, posix_file_system()), "");
    EXPECT_EQ(names_in(scratch.path()).size(), 2u) << "call " << call;
  }
  EXPECT_GT(published, 0);  // died among the calls that remove old checkpoints
}

}  // namespace
}  // namespace filigree
