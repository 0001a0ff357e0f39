// What happens when ranks disagree, stall or fail.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "parallel/mesh.hpp"
#include "parallel/run_ranks.hpp"
#include "parallel/watchdog.hpp"

namespace filigree::testing {
namespace {

using namespace std::chrono_literals;
using World = std::shared_ptr<Communicator>;
using Clock = std::chrono::steady_clock;

Tensor ones(std::int64_t count, DType dtype = DType::f32) { return Tensor::zeros({count}, dtype); }

template <class Error>
std::string message_of(int ranks, const std::function<void(World)>& body,
                       const ThreadRanksOptions& options = {}) {
  try {
    run_ranks(ranks, body, options);
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "run_ranks threw nothing";
  return "";
}

void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " not in: " << text;
}

TEST(Mismatch, NamesBothRanksAndOperations) {
  expect_contains(message_of<InternalError>(3,
                                            [](const World& world) {
                                              world->barrier();
                                              if (world->rank() == 2)
                                                world->broadcast(ones(8), 1);
                                              else
                                                world->all_reduce(ones(8));
                                            }),
                  {"#2 on world", "rank 2 calls broadcast of 32 bytes f32 from rank 1",
                   "calls all_reduce(sum) of 32 bytes f32"});
}

TEST(Mismatch, NoticesSizeDtypeOperatorAndRoot) {
  const auto differ = [](const std::function<void(World, bool)>& call) {
    return message_of<InternalError>(2,
                                     [&](const World& world) { call(world, world->rank() == 0); });
  };
  expect_contains(differ([](const World& w, bool first) { w->all_reduce(ones(first ? 3 : 5)); }),
                  {"12 bytes f32", "20 bytes f32"});
  expect_contains(differ([](const World& w, bool first) {
                    w->all_reduce(ones(4, first ? DType::f32 : DType::i32));
                  }),
                  {"16 bytes f32", "16 bytes i32"});
  expect_contains(differ([](const World& w, bool first) {
                    w->all_reduce(ones(4), first ? ReduceOp::sum : ReduceOp::max);
                  }),
                  {"all_reduce(sum)", "all_reduce(max)"});
  expect_contains(differ([](const World& w, bool first) { w->broadcast(ones(4), first ? 0 : 1); }),
                  {"from rank 0", "from rank 1"});
  expect_contains(differ([](const World& w, bool first) {
                    if (first)
                      w->send(ones(4), 1);
                    else
                      w->receive(ones(6), 0);
                  }),
                  {"send of 16 bytes", "receive of 24 bytes"});
}

TEST(Mismatch, IsNoticedByStartedOperations) {
  expect_contains(message_of<InternalError>(2,
                                            [](const World& world) {
                                              Pending sum =
                                                  world->start_all_reduce(ones(world->rank() + 1));
                                              sum.wait();
                                            }),
                  {"4 bytes", "8 bytes"});
}

TEST(Timeout, NamesRankOperationAndMissingRanks) {
  std::atomic<bool> over = false;
  const auto body = [&](const World& world) {
    const Mesh mesh(world, {.data = 2, .tensor = 2});
    mesh.on(Axis::data).barrier();
    if (world->rank() == 3) {
      while (!over) std::this_thread::sleep_for(1ms);
      return;
    }
    if (world->rank() != 1) return;
    try {
      mesh.on(Axis::data).all_reduce(ones(10));
    } catch (const CollectiveTimeout&) {
      over = true;
      throw;
    }
  };
  expect_contains(message_of<CollectiveTimeout>(4, body, {.timeout = 200ms}),
                  {"rank 1 in all_reduce #2 on data (40 bytes) waited 200 ms in vain for rank 3"});
}

TEST(Timeout, ALateRankIsToldThatTheOthersHaveGone) {
  std::atomic<bool> gone = false;
  std::string late;
  const auto body = [&](const World& world) {
    if (world->rank() == 1) {
      while (!gone) std::this_thread::sleep_for(1ms);
      try {
        world->barrier();
      } catch (const PeerFailed& error) {
        EXPECT_EQ(error.rank(), 0);
        late = error.what();
      }
      return;
    }
    EXPECT_THROW(world->barrier(), CollectiveTimeout);
    gone = true;
  };
  run_ranks(2, body, {.timeout = 100ms});
  expect_contains(late, {"rank 0 gave up waiting; rank 1 in barrier #1 on world"});
}

TEST(Failure, OfOneRankFreesTheOthersAndIsRethrown) {
  std::atomic<int> freed = 0;
  const auto start = Clock::now();
  const auto body = [&](const World& world) {
    const Mesh mesh(world, {.data = 2, .tensor = 2});
    if (world->rank() == 2) {
      std::this_thread::sleep_for(20ms);
      throw UserError("shard 7 is truncated");
    }
    // Rank 2's neighbours on both axes, and rank 1, which waits for another waiting rank.
    try {
      if (world->rank() == 0) mesh.on(Axis::data).all_reduce(ones(3));
      if (world->rank() == 1) mesh.on(Axis::tensor).barrier();
      if (world->rank() == 3) mesh.on(Axis::tensor).receive(ones(3), 0);
    } catch (const PeerFailed& error) {
      EXPECT_EQ(error.rank(), 2);
      expect_contains(error.what(), {"rank 2 failed: shard 7 is truncated"});
      ++freed;
      EXPECT_THROW(mesh.on(Axis::data).barrier(), PeerFailed) << "later operations must fail too";
      EXPECT_THROW(mesh.on(Axis::tensor).split(0, 0, "late"), PeerFailed);
      throw;
    }
  };
  EXPECT_EQ(message_of<UserError>(4, body), "shard 7 is truncated");
  EXPECT_EQ(freed, 3);
  EXPECT_LT(Clock::now() - start, 1s);
}

TEST(Failure, OfARankThatReturnsEarlyFreesTheOthers) {
  const auto body = [](const World& world) {
    if (world->rank() != 1) world->barrier();
  };
  expect_contains(message_of<PeerFailed>(3, body), {"rank 1 has ended", "barrier #1 on world"});
}

TEST(Arguments, AreChecked) {
  run_ranks(2, [](const World& world) {
    EXPECT_THROW(world->all_gather(ones(3), ones(5)), InternalError);
    EXPECT_THROW(world->all_gather(ones(3), ones(6, DType::f64)), InternalError);
    EXPECT_THROW(world->reduce_scatter(ones(7), ones(3)), InternalError);
    EXPECT_THROW(world->all_to_all(ones(3), ones(3)), InternalError);
    EXPECT_THROW(world->all_reduce(ones(3, DType::u8)), InternalError);
    EXPECT_THROW(world->broadcast(ones(3), 2), InternalError);
    EXPECT_THROW(world->send(ones(3), world->rank()), InternalError);
    EXPECT_THROW(Mesh(world, {.data = 3}), InternalError);
    world->barrier();  // refused calls are no part of the order
  });
}

TEST(ShardRange, CoversEverythingOnce) {
  for (const std::int64_t total : {0, 1, 5, 12, 1001})
    for (int size = 1; size <= 7; ++size) {
      std::int64_t next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const ShardRange range = shard_range(total, size, rank);
        EXPECT_EQ(range.begin, next);
        EXPECT_EQ(range.size(), total / size + (rank < total % size ? 1 : 0));
        next = range.end;
      }
      EXPECT_EQ(next, total);
    }
  EXPECT_EQ(shard_range(10, 4, 1), (ShardRange{3, 6}));
}

TEST(MeshShape, HasAName) {
  EXPECT_EQ((MeshShape{.data = 2, .tensor = 2}).name(), "dp2 x tp2");
  EXPECT_EQ((MeshShape{.pipeline = 2, .context = 3}).name(), "pp2 x cp3");
  EXPECT_EQ(MeshShape{}.name(), "1");
  run_ranks(4, [](const World& world) {
    const Mesh mesh(world, {.data = 2, .tensor = 2});
    if (world->rank() == 1) {
      EXPECT_EQ(mesh.describe(), "[rank 1 data 0 tensor 1]");
    }
    if (world->rank() == 2) {
      EXPECT_EQ(mesh.describe(), "[rank 2 data 1 tensor 0]");
    }
  });
}

TEST(Watchdog, SpeaksOnceAboutAnOperationThatDoesNotReturn) {
  std::atomic<int> spoken = 0;
  std::string sentence;
  {
    Watchdog watchdog("rank 3 on node17", 60ms, [&](const std::string& text) {
      sentence = text;
      ++spoken;
    });
    CollectiveCall call;
    call.operation = "all_reduce";
    call.sequence = 12;
    call.bytes = 8192;
    for (int quick = 0; quick < 5; ++quick) {
      const Watchdog::Guard guard(watchdog, call, "data");
      std::this_thread::sleep_for(20ms);
    }
    EXPECT_EQ(spoken, 0) << "operations that return are no stall, however many there are";
    const Watchdog::Guard guard(watchdog, call, "data");
    const auto deadline = Clock::now() + 5s;
    while (spoken == 0 && Clock::now() < deadline) std::this_thread::sleep_for(5ms);
  }
  EXPECT_EQ(spoken, 1);
  EXPECT_EQ(
      sentence,
      "rank 3 on node17 is stuck: all_reduce #12 on data (8192 bytes) has not returned for 60 ms");
}

}  // namespace
}  // namespace filigree::testing
