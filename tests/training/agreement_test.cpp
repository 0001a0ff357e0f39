#include "runtime/training/agreement.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "parallel/run_ranks.hpp"

namespace filigree {
namespace {

TEST(Agree, EveryRankThrowsTheErrorOfTheLowestFailingRank) {
  run_ranks(4, [](std::shared_ptr<Communicator> world) {
    agree(*world, [] {});
    try {
      agree(*world, [&] {
        if (world->rank() >= 2) throw UserError(str("disk ", world->rank(), " is full"));
      });
      ADD_FAILURE() << "rank " << world->rank() << " went on";
    } catch (const AgreedError& error) {
      EXPECT_STREQ(error.what(), "[rank 2] disk 2 is full");
    }
    world->barrier();  // still in step
  });
}

TEST(Agree, OnFirstRunsOnRankZeroOnly) {
  std::atomic<int> runs = 0;
  run_ranks(3, [&](std::shared_ptr<Communicator> world) {
    agree_on_first(*world, [&] { ++runs; });
    try {
      agree_on_first(*world, [] { throw UserError("folder exists"); });
      ADD_FAILURE() << "rank " << world->rank() << " went on";
    } catch (const AgreedError& error) {
      EXPECT_STREQ(error.what(), "folder exists");
    }
  });
  EXPECT_EQ(runs, 1);
}

// Work of 3 seconds where no collective may wait one and a half.
TEST(Agree, AtLengthNoCollectiveWaitsForTheWork) {
  using namespace std::chrono_literals;
  std::atomic<int> runs = 0;
  run_ranks(3,
            [&](std::shared_ptr<Communicator> world) {
              agree_on_first_at_length(*world, [&] {
                std::this_thread::sleep_for(3s);
                ++runs;
              });
              EXPECT_EQ(runs, 1);
              EXPECT_THROW(
                  agree_on_first_at_length(*world, [] { throw UserError("nothing verifies"); }),
                  AgreedError);
              world->barrier();
            },
            {.timeout = 1500ms});
}

TEST(AnyRank, IsTrueWhenOneIs) {
  run_ranks(3, [](std::shared_ptr<Communicator> world) {
    EXPECT_FALSE(any_rank(*world, false));
    EXPECT_TRUE(any_rank(*world, world->rank() == 1));
  });
}

TEST(BroadcastText, CarriesTheRootsTextOfAnyLength) {
  run_ranks(2, [](std::shared_ptr<Communicator> world) {
    EXPECT_EQ(broadcast_text(*world, world->rank() == 1 ? "naïve\n" : "other", 1), "naïve\n");
    EXPECT_EQ(broadcast_text(*world, "", 0), "");
  });
}

}  // namespace
}  // namespace filigree
