// Saves in the background: what they save, what the caller may do meanwhile, and how they end.
#include "checkpoint/saver.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/checkpoint/checkpoint_helpers.hpp"
#include "tests/harness/faulty_file_system.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

using Names = std::vector<std::string>;

GlobalTensor weights(std::int64_t step) {
  return {"parameters/w", random_bits({64, 32}, DType::f32, "w", static_cast<std::uint64_t>(step))};
}

// A disk whose flushes wait until the test lets them go.
class HeldDisk : public FileSystem {
 public:
  int sync(int descriptor) override {
    std::unique_lock lock(mutex_);
    released_.wait(lock, [this] { return open_; });
    return FileSystem::sync(descriptor);
  }
  void release() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    released_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable released_;
  bool open_ = false;
};

// A disk that removes no checkpoint before the test lets it, and notes a folder that is made
// meanwhile.
class HeldRemoval : public FileSystem {
 public:
  int remove(const std::filesystem::path& path) override {
    if (path.extension() != ".removed") return FileSystem::remove(path);
    std::unique_lock lock(mutex_);
    removing_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    removing_ = false;
    return FileSystem::remove(path);
  }
  int make_folder(const std::filesystem::path& path) override {
    const std::lock_guard lock(mutex_);
    made_within_removal_ |= removing_;
    return FileSystem::make_folder(path);
  }
  void wait_for_removal() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return removing_; });
  }
  void release() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool made_within_removal() const {
    const std::lock_guard lock(mutex_);
    return made_within_removal_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false, removing_ = false, made_within_removal_ = false;
};

CheckpointSaver::Options options(FileSystem& system, std::int64_t keep = 3) {
  return {{keep, 0}, true, &system};
}

TEST(CheckpointSaver, SavesWhatTheTensorsHeldAtTheStart) {
  for (const int ranks : {1, 3}) {
    const TemporaryFolder scratch;
    HeldDisk disk;
    run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
      CheckpointSaver saver(scratch.path(), *world, options(disk));
      const NamedTensor mine = shard_of(weights(1), 0, ranks, world->rank());
      EXPECT_FALSE(saver.start(info_of(1, 1, ranks), {mine}).has_value());
      EXPECT_TRUE(saver.busy());
      for (int i = 0; i < 5; ++i) EXPECT_FALSE(saver.poll().has_value());  // the disk is held
      saver.wait_for_copy();
      mine.tensor.zero();  // training goes on
      world->barrier();
      disk.release();
      const SaveReport report = saver.finish();
      EXPECT_FALSE(saver.busy());
      EXPECT_EQ(report.step, 1);
      EXPECT_EQ(report.failure, "");
      EXPECT_GT(report.saved.bytes, 64 * 32 * 4);
      EXPECT_GE(report.total_seconds, report.pause_seconds);
      EXPECT_FALSE(saver.poll().has_value());
    });
    expect_reads(CheckpointReader(*newest_checkpoint(scratch.path(), no_warning)),
                 whole_of(weights(1)));
  }
}

TEST(CheckpointSaver, PollEndsASaveWithoutWaiting) {
  const TemporaryFolder scratch;
  run_ranks(2, [&](std::shared_ptr<Communicator> world) {
    CheckpointSaver saver(scratch.path(), *world, options(posix_file_system(), 2));
    for (std::int64_t step = 1; step <= 4; ++step) {
      auto report =
          saver.start(info_of(step, 1, 2), {shard_of(weights(step), 0, 2, world->rank())});
      int polls = 0;
      for (; !report && polls < 20000; ++polls) {
        report = saver.poll();
        if (!report) std::this_thread::sleep_for(std::chrono::microseconds(500));
      }
      ASSERT_TRUE(report.has_value()) << polls;
      EXPECT_EQ(report->failure, "");
    }
  });
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"step_00000003", "step_00000004"}));
}

TEST(CheckpointSaver, AFailureIsReportedToAllAndTheNextSaveSucceeds) {
  const TemporaryFolder scratch;
  testing::FaultyFileSystem system;
  system.fail_from = 1;
  system.fail_to = 1 << 20;
  system.only = "write";
  system.error = ENOSPC;
  run_ranks(3, [&](std::shared_ptr<Communicator> world) {
    CheckpointSaver saver(scratch.path(), *world, options(system));
    const auto tensors = [&] {
      return std::vector<NamedTensor>{shard_of(weights(2), 0, 3, world->rank())};
    };
    auto report = saver.start(info_of(2, 1, 3), tensors());
    if (!report) report = saver.finish();
    expect_mentions(report->failure, {"step 2 was not saved", "rank 0", "No space left"});
    world->barrier();
    if (world->rank() == 0) system.only = "nothing";
    world->barrier();
    report = saver.start(info_of(3, 1, 3), tensors());
    if (!report) report = saver.finish();
    EXPECT_EQ(report->failure, "");
  });
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"step_00000003"});
}

TEST(CheckpointSaver, InTheForegroundStartDoesItAll) {
  const TemporaryFolder scratch;
  const auto world = self_communicator();
  CheckpointSaver::Options waiting = options(posix_file_system());
  waiting.background = false;
  CheckpointSaver saver(scratch.path(), *world, waiting);
  const auto report = saver.start(info_of(7), {whole_of(weights(7))});
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->failure, "");
  expect_reads(CheckpointReader(*newest_checkpoint(scratch.path(), no_warning)),
               whole_of(weights(7)));
}

TEST(CheckpointSaver, NobodyWaitsForTheRemovalOfOldOnesButTheNextSave) {
  for (const bool background : {false, true}) {
    const TemporaryFolder scratch;
    HeldRemoval disk;
    const auto world = self_communicator();
    CheckpointSaver::Options removing = options(disk, 1);
    removing.background = background;
    CheckpointSaver saver(scratch.path(), *world, removing);
    const auto save = [&](std::int64_t step) {
      auto report = saver.start(info_of(step), {whole_of(weights(step))});
      if (!report) report = saver.finish();
      EXPECT_EQ(report->failure, "");
    };
    for (const std::int64_t step : {1, 2, 3}) save(step);
    disk.wait_for_removal();
    EXPECT_EQ(names_in(scratch.path()),
              (Names{"step_00000001.tmp.removed", "step_00000002", "step_00000003"}));
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      disk.release();
    });
    save(4);
    later.join();
    EXPECT_FALSE(disk.made_within_removal()) << "the removal would take it for a leftover";
    EXPECT_EQ(saver.wait_for_removal(), Names{});
    EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000003", "step_00000004"}));
  }
}

TEST(CheckpointSaver, WhatCannotBeRemovedIsReportedOnceAndTriedAgain) {
  const TemporaryFolder scratch;
  testing::FaultyFileSystem system;
  system.only = "remove";
  system.fail_from = 1;
  system.fail_to = 1 << 20;
  const auto world = self_communicator();
  CheckpointSaver::Options waiting = options(system, 1);
  waiting.background = false;
  CheckpointSaver saver(scratch.path(), *world, waiting);
  const auto warnings = [&](std::int64_t step) {
    return saver.start(info_of(step), {whole_of(weights(step))})->saved.warnings;
  };
  for (const std::int64_t step : {1, 2, 3}) EXPECT_EQ(warnings(step), Names{});
  const Names of_the_next = warnings(4);
  ASSERT_FALSE(of_the_next.empty());
  expect_mentions(of_the_next[0], {"cannot remove the old", "step_00000001.tmp.removed"});
  const Names of_the_last = saver.wait_for_removal();
  ASSERT_FALSE(of_the_last.empty());
  EXPECT_EQ(saver.wait_for_removal(), Names{});
  system.only = "nothing";
  EXPECT_EQ(warnings(5), Names{});
  EXPECT_EQ(saver.wait_for_removal(), Names{});
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000004", "step_00000005"}));
}

TEST(CheckpointSaver, GivenUpItLeavesNothing) {
  const TemporaryFolder scratch;
  {
    const auto world = self_communicator();
    CheckpointSaver saver(scratch.path(), *world, options(posix_file_system()));
    EXPECT_FALSE(saver.start(info_of(7), {whole_of(weights(7))}).has_value());
  }
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{});
}

}  // namespace
}  // namespace filigree
