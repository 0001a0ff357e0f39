// The NCCL communicator, with ranks as threads that have a GPU each, emulated or not. How it fails
// is in nccl_failure_test.cpp.
#include "parallel/nccl_communicator.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/cuda/gpu_ranks.hpp"
#include "tests/parallel/parallel_checks.hpp"

namespace filigree::testing {
namespace {

// Carries what the checks give it, host tensors, by way of the GPU.
class ByGpu final : public Communicator {
 public:
  ByGpu(World inner, const ExecutionContext& context)
      : Communicator(inner->rank(), inner->size(), inner->name()),
        inner_(std::move(inner)),
        context_(context) {}
  void abort(const std::string& reason) noexcept override { inner_->abort(reason); }

 protected:
  void do_barrier(const Call&) override { inner_->barrier(); }
  void do_all_reduce(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->all_reduce(there, *call.reduce);
    bring_back(there, tensor);
  }
  void do_all_gather(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(out);
    inner_->all_gather(part(in, out, there), there);
    bring_back(there, out);
  }
  void do_reduce_scatter(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(in), sum = part(out, in, there);
    inner_->reduce_scatter(there, sum);
    bring_back(sum, out);
  }
  void do_all_to_all(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(out);
    inner_->all_to_all(context_.upload(in), there);
    bring_back(there, out);
  }
  void do_broadcast(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->broadcast(there, call.peer);
    bring_back(there, tensor);
  }
  void do_send(const Call& call, const Tensor& tensor) override {
    inner_->send(context_.upload(tensor), call.peer);
  }
  void do_receive(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->receive(there, call.peer);
    bring_back(there, tensor);
  }
  std::function<void()> do_start_all_reduce(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    auto pending = std::make_shared<Pending>(inner_->start_all_reduce(there, *call.reduce));
    return [this, pending, there, tensor] {
      pending->wait();
      bring_back(there, tensor);
    };
  }
  std::unique_ptr<Communicator> do_split(const Call&, int color, int key,
                                         const std::string& name) override {
    World group = inner_->split(color, key, name);
    if (group->size() == 1) return self_communicator(name);
    return std::make_unique<ByGpu>(std::move(group), context_);
  }

 private:
  void bring_back(const Tensor& there, const Tensor& tensor) const {
    tensor.copy_from(context_.download(there));
  }
  // The GPU's copy of `part`: inside that of `whole` where it lies there on the host.
  Tensor part(const Tensor& part, const Tensor& whole, const Tensor& whole_there) const {
    const std::int64_t begin = rank() * part.numel();
    const bool inside = whole.numel() > 0 && part.raw() == whole.flat(begin, part.shape()).raw();
    return inside ? whole_there.flat(begin, part.shape()) : context_.upload(part);
  }

  World inner_;
  ExecutionContext context_;
};

// All but the one that asks for rank order, which NCCL does not promise.
std::vector<ParallelCheck> checks() {
  std::vector<ParallelCheck> all;
  for (const auto& group : {collective_checks(), derivative_checks(), reducer_checks()})
    for (const ParallelCheck& check : group)
      if (std::string(check.name) != "SumsAreInRankOrder") all.push_back(check);
  return all;
}

class NcclRanks : public ::testing::TestWithParam<std::tuple<ParallelCheck, int>> {};

TEST_P(NcclRanks, Holds) {
  const auto& [check, ranks] = GetParam();
  fresh_gpus(ranks, static_cast<std::uint64_t>(ranks));
  run_gpu_ranks(
      ranks, [&](GpuRank& rank) { check.body(std::make_shared<ByGpu>(rank.world, rank.context)); });
}

INSTANTIATE_TEST_SUITE_P(Checks, NcclRanks,
                         ::testing::Combine(::testing::ValuesIn(checks()),
                                            ::testing::Values(2, 3, 4)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "On" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(NcclCommunicator, RunsBetweenEarlierAndLaterWork) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    fresh_gpus(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor sum = doubled(rank, filled(rank, 300, static_cast<float>(rank.rank() + 1)));
      rank.world->all_reduce(sum);
      EXPECT_EQ(value_of(rank, doubled(rank, sum)), 12.0F);
    });
  }
}

TEST(NcclCommunicator, StartedSumsLetOtherWorkGoOn) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    fresh_gpus(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      Tensor first = filled(rank, 300, 1.0F), second = filled(rank, 300, 2.0F);
      Pending one = rank.world->start_all_reduce(first);
      Pending other = rank.world->start_all_reduce(second, ReduceOp::max);
      const Tensor beside = doubled(rank, filled(rank, 300, 5.0F));
      other.wait();
      EXPECT_EQ(value_of(rank, doubled(rank, second)), 4.0F);
      one.wait();
      EXPECT_EQ(value_of(rank, doubled(rank, first)), 4.0F);
      EXPECT_EQ(value_of(rank, beside), 10.0F);
    });
  }
}

// A block that is free again may be written while the sum is on its way: not before it has read.
TEST(NcclCommunicator, MemoryIsUsedAgainOnlyBehindTheOperation) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    fresh_gpus(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor all = filled(rank, 600, 0.0F);
      rank.world->all_gather(doubled(rank, filled(rank, 300, 1.0F)), all);
      const Tensor next = doubled(rank, filled(rank, 300, 7.0F));  // in the same block
      EXPECT_EQ(value_of(rank, all), 2.0F);
      EXPECT_EQ(value_of(rank, next), 14.0F);
    });
  }
}

TEST(NcclCommunicator, IsCapturedAndLaunchedAgain) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    fresh_gpus(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor x = filled(rank, 300, static_cast<float>(rank.rank() + 1));
      const auto work = captured_sum(rank, x);
      for (const float expected : {3.0F, 6.0F, 12.0F}) {
        work->launch(*rank.context.stream);
        rank.world->watch_launched("captured sum");
        EXPECT_EQ(value_of(rank, x), expected);
      }
      rank.world->all_reduce(x);
      EXPECT_EQ(value_of(rank, x), 24.0F);
    });
  }
}

TEST(NcclCommunicator, IsLeftInOrderWithWorkOnItsWay) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    fresh_gpus(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor sum = filled(rank, 300, 3.0F);
      rank.world->all_reduce(sum);
      rank.world.reset();
      EXPECT_EQ(value_of(rank, sum), 6.0F);
    });
  }
}

TEST(NcclCommunicator, HostTensorsAreAddedInRankOrder) {
  fresh_gpus(3, 1);
  run_gpu_ranks(3, [](GpuRank& rank) {
    for (const ParallelCheck& check : collective_checks())
      if (std::string(check.name) == "SumsAreInRankOrder") check.body(rank.world);
  });
}

TEST(NcclCommunicator, SumsHaveTheSameBitsOnAllRanksInEveryRun) {
  std::vector<Tensor> sums;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    fresh_gpus(4, seed);
    std::vector<Tensor> by_rank(4);
    run_gpu_ranks(4, [&](GpuRank& rank) {
      const Tensor sum = rank.context.upload(
          random_tensor({1001}, DType::f32, static_cast<std::uint64_t>(rank.rank())));
      rank.world->all_reduce(sum);
      by_rank[static_cast<std::size_t>(rank.rank())] = rank.context.download(sum);
    });
    sums.insert(sums.end(), by_rank.begin(), by_rank.end());
  }
  for (const Tensor& sum : sums)
    EXPECT_EQ(std::memcmp(sum.raw(), sums.front().raw(), static_cast<std::size_t>(sum.bytes())), 0);
}

TEST(NcclCommunicator, AWorldOfOneNeedsNoNccl) {
  fresh_gpus(1, 0);
  run_gpu_ranks(1, [](GpuRank& rank) {
    const Tensor x = filled(rank, 10, 2.0F);
    rank.world->all_reduce(x);
    EXPECT_EQ(value_of(rank, x), 2.0F);
  });
}

}  // namespace
}  // namespace filigree::testing
