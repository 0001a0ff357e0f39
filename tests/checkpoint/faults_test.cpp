// Saves that fail or die halfway: every rank hears of it, nothing is published, what was saved
// before stays.
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <set>

#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

GlobalTensor weights(std::uint64_t step, std::int64_t rows = 64) {
  return {"parameters/w", random_bits({rows, 256}, DType::f32, "w", step)};
}

SavedCheckpoint save_step(const fs::path& folder, std::int64_t step, int ranks, std::int64_t keep,
                          std::int64_t rows = 64) {
  SavedCheckpoint saved;
  const GlobalTensor global = weights(static_cast<std::uint64_t>(step), rows);
  run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
    const SavedCheckpoint own =
        save_checkpoint(folder, info_of(step, 1, ranks),
                        {shard_of(global, 0, ranks, world->rank())}, *world, {.keep = keep});
    if (world->rank() == 0) saved = own;
  });
  return saved;
}

void expect_newest_is(const fs::path& folder, std::int64_t step, std::int64_t rows = 64) {
  const auto newest = newest_checkpoint(folder, no_warning);
  ASSERT_TRUE(newest.has_value());
  const CheckpointReader reader(*newest);
  EXPECT_EQ(reader.info().step, step);
  expect_reads(reader, whole_of(weights(static_cast<std::uint64_t>(step), rows)));
}

// Runs `body` in a forked child, which must end by itself with exit code 0.
template <class Body>
void in_child(Body&& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {  // must not reach the parent's test runner
      ADD_FAILURE() << error.what();
    }
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

// Every rank saves what `tensors` gives it; all must throw the same UserError, which is returned.
std::string shared_error_of(int ranks, const fs::path& folder,
                            const std::function<std::vector<PromisedSlice>(int)>& tensors,
                            const CheckpointInfo& info = info_of(2)) {
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
    errors[static_cast<std::size_t>(world->rank())] = user_error(
        [&] { save_checkpoint(folder, info, tensors(world->rank()), *world, {.keep = 1}); });
    world->barrier();  // still usable
  });
  for (const std::string& error : errors) EXPECT_EQ(error, errors.front());
  return errors.front();
}

class FailingSave : public ::testing::Test {
 protected:
  void SetUp() override { save_step(scratch_.path(), 1, 2, 1); }
  void TearDown() override {
    EXPECT_EQ(names_in(scratch_.path()), std::vector<std::string>{"step_00000001"});
    expect_newest_is(scratch_.path(), 1);
  }
  TemporaryFolder scratch_;
};

NamedTensor named(const std::string& name, const Shape& shape, const Shape& global,
                  const std::vector<std::int64_t>& offset, DType dtype = DType::f32) {
  return {name, random_bits(shape, dtype, name), global, offset};
}

TEST_F(FailingSave, ARankThatCannotWriteItsFile) {
  // A dataset cannot also be a group: rank 2 fails after ranks 0 and 1 have written their files.
  const std::string error = shared_error_of(4, scratch_.path(), [](int rank) {
    std::vector<PromisedSlice> tensors{named("w", {1, 3}, {4, 3}, {rank, 0})};
    if (rank == 2) tensors.push_back(named("w/inner", {2}, {2}, {0}));
    return tensors;
  });
  expect_mentions(error, {"step 2 was not saved", "rank 2", "rank_00002.h5", "w/inner"});
}

TEST_F(FailingSave, ARankWithATensorThatCannotBeStored) {
  const auto error_of = [&](const NamedTensor& bad) {
    return shared_error_of(3, scratch_.path(), [&](int rank) {
      return rank == 1 ? std::vector<PromisedSlice>{bad} : std::vector<PromisedSlice>{};
    });
  };
  expect_mentions(error_of({"w", Tensor(), {2}, {0}}), {"rank 1", "'w'", "no values"});
  expect_mentions(error_of(named("w", {2}, {3}, {2})), {"rank 1", "'w'", "[2:4]", "[3]"});
  expect_mentions(error_of(named("w", {2}, {2, 2}, {0})), {"rank 1", "'w'", "dims"});
  for (const std::string name : {"", "/w", "w/", "a//b", "a/../b", "a b", "w#1", "\xc3\xa4"}) {
    expect_mentions(error_of(named(name, {2}, {2}, {0})), {"rank 1", "'" + name + "'"});
  }
}

TEST_F(FailingSave, RanksThatDisagree) {
  const auto error_of = [&](const NamedTensor& first, const NamedTensor& second) {
    return shared_error_of(2, scratch_.path(), [&](int rank) {
      return std::vector<PromisedSlice>{rank == 0 ? first : second};
    });
  };
  const NamedTensor half = named("w", {2}, {4}, {0});
  expect_mentions(error_of(half, named("w", {2}, {5}, {2})), {"'w'", "f32[5]", "rank 1", "f32[4]"});
  expect_mentions(error_of(half, named("w", {2}, {4}, {2}, DType::f64)), {"'w'", "f64", "f32"});
  expect_mentions(error_of(half, named("w", {1}, {4}, {3})), {"'w'", "no rank holds [2:3]"});
}

TEST_F(FailingSave, StateThatJsonCannotHold) {
  CheckpointInfo info = info_of(2);
  info.state["loss"] = {{"best", std::numeric_limits<double>::infinity()}};
  const auto nothing = [](int) { return std::vector<PromisedSlice>{}; };
  expect_mentions(shared_error_of(2, scratch_.path(), nothing, info), {"state.loss.best is inf"});
  info = info_of(2);
  info.state["text"] = "\xff";
  expect_mentions(shared_error_of(2, scratch_.path(), nothing, info), {"rank 0", "UTF-8"});
}

TEST_F(FailingSave, AFolderThatCannotBeMade) {
  const fs::path file = scratch_.path() / "step_00000001" / "manifest.json";
  const auto nothing = [](int) { return std::vector<PromisedSlice>{}; };
  expect_mentions(shared_error_of(3, file / "checkpoints", nothing),
                  {"rank 0", "cannot create folder", "Not a directory"});
}

TEST_F(FailingSave, AFileLargerThanTheProcessMayWrite) {
  in_child([&] {
    const rlimit limit{200000, 200000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, SIG_IGN);
    const std::string error = shared_error_of(3, scratch_.path(), [](int rank) {
      const std::int64_t rows = rank == 1 ? 300 : 10;
      return std::vector<PromisedSlice>{named(str("w", rank), {rows, 256}, {rows, 256}, {0, 0})};
    });
    expect_mentions(error, {"rank 1: ", "rank_00001.h5", "File too large", "bytes are needed"});
    save_step(scratch_.path(), 1, 2, 1);  // small enough, and nothing lingers from the failure
  });
}

// A file system of a few MiB.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& path) : path_(path) {
    fs::create_directory(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=2m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  fs::path path_;
  bool mounted_;
};

TEST(FullDisk, LeavesTheOldCheckpointAndSaysWhatWasNeeded) {
  const TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "disk";
  const SmallDisk disk(folder);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs needs root";
  in_child([&] {
    save_step(folder, 1, 2, 1, 512);  // 512 KiB
    const GlobalTensor large = weights(2, 4096);
    const std::string error = shared_error_of(2, folder, [&](int rank) {
      return std::vector<PromisedSlice>{shard_of(large, 0, 2, rank)};
    });
    expect_mentions(error, {"step 2 was not saved", "No space left", "4194304 bytes are needed"});
    EXPECT_EQ(names_in(folder), std::vector<std::string>{"step_00000001"});
    expect_newest_is(folder, 1, 512);

    // Enough by the sum of the values, but not with the padding: found when a rank reserves its
    // space.
    const std::string padded = shared_error_of(2, folder, [&](int rank) {
      std::vector<PromisedSlice> tensors;
      for (int i = 0; i < 150; ++i) {
        tensors.push_back(named(str("w", rank, ".", i), {1025}, {1025}, {0}));
      }
      return tensors;
    });
    expect_mentions(padded, {"reserve space", ".h5", "No space left", "615000 bytes are needed"});
    EXPECT_EQ(names_in(folder), std::vector<std::string>{"step_00000001"});

    // Not a byte left: even the file's own structure does not fit.
    std::ofstream filler(folder / "filler");
    while (filler << std::string(4096, 'x') << std::flush) {
    }
    filler.close();
    const std::string full = shared_error_of(2, folder, [&](int rank) {
      return std::vector<PromisedSlice>{shard_of(weights(2), 0, 2, rank)};
    });
    expect_mentions(full, {"step 2 was not saved", "No space left"});
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"filler", "step_00000001"}));

    fs::remove(folder / "filler");
    save_step(folder, 3, 2, 1, 512);
    expect_newest_is(folder, 3, 512);
  });
}

[[noreturn]] void save_for_ever(const fs::path& folder, std::int64_t step) {
  try {
    for (;; ++step) save_step(folder, step, 2, 2);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  ::_exit(1);
}

std::set<std::string> temporary_names(const fs::path& folder) {
  std::set<std::string> names;
  for (const std::string& name : names_in(folder)) {
    if (name.find(".tmp.") != std::string::npos) names.insert(name);
  }
  return names;
}

// Waits until a save is under way that was not there before; false after ten seconds.
bool wait_for_save(const fs::path& folder, const std::set<std::string>& before) {
  for (int i = 0; i < 100000; ++i) {
    for (const std::string& name : temporary_names(folder)) {
      if (before.count(name) == 0) return true;
    }
    ::usleep(100);
  }
  return false;
}

TEST(KilledSave, AlwaysLeavesACompleteNewestCheckpoint) {
  const TemporaryFolder scratch;
  const auto begin = std::chrono::steady_clock::now();
  save_step(scratch.path(), 1, 2, 2);
  const double save_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const Philox philox(5, RandomPurpose::test, 0);
  std::int64_t newest_step = 1;
  int killed_in_a_save = 0;
  for (std::uint64_t round = 0; round < 200; ++round) {
    const std::set<std::string> before = temporary_names(scratch.path());
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_for_ever(scratch.path(), newest_step + 1);
    const bool saving = wait_for_save(scratch.path(), before);
    ::usleep(static_cast<useconds_t>(philox.uniform(round) * save_seconds * 2e6));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(saving && WIFSIGNALED(status)) << "the child did not save: " << status;

    const auto newest = newest_checkpoint(scratch.path(), no_warning);
    ASSERT_TRUE(newest.has_value());
    const std::int64_t step = CheckpointReader(*newest).info().step;
    ASSERT_GE(step, newest_step);
    expect_newest_is(scratch.path(), step);
    newest_step = step;
    for (const std::string& name : temporary_names(scratch.path())) {
      killed_in_a_save += before.count(name) == 0 ? 1 : 0;
    }
  }
  EXPECT_GT(killed_in_a_save, 30);
  // The next save that succeeds clears away what the dead ones left.
  save_step(scratch.path(), newest_step + 1, 2, 2);
  EXPECT_EQ(temporary_names(scratch.path()), std::set<std::string>{});
  EXPECT_EQ(names_in(scratch.path()).size(), 2u);
  expect_newest_is(scratch.path(), newest_step + 1);
}

TEST(AbortedSave, ARankThatNeverComesLeavesNothing) {
  const TemporaryFolder scratch;
  EXPECT_THROW(run_ranks(3,
                         [&](std::shared_ptr<Communicator> world) {
                           if (world->rank() == 2) throw UserError("this rank has left");
                           save_checkpoint(scratch.path(), info_of(1), {}, *world, {.keep = 1});
                         }),
               UserError);
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{});
}

}  // namespace
}  // namespace filigree
