// When and where the values of what is saved are asked for.
#include <atomic>
#include <mutex>

#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

constexpr std::int64_t kRows = 64, kColumns = 256, kTensorBytes = kRows * kColumns * 4;

// Tensors that are made when they are fetched, in memory of their own that is counted.
class Source {
 public:
  GlobalTensor tensor(int index) const {
    const std::string name = str("parameters/w", index);
    return {name, random_bits({kRows, kColumns}, DType::f32, name)};
  }

  PromisedSlice promise(int index, int size = 1, int rank = 0) {
    const NamedTensor slice = shard_of(tensor(index), 0, size, rank);
    return {slice, [this, index, size, rank] {
              const NamedTensor made = shard_of(tensor(index), 0, size, rank);
              const Tensor values =
                  Tensor::empty(made.tensor.shape(), made.tensor.dtype(), memory_);
              values.copy_from(made.tensor);
              const std::lock_guard lock(mutex_);
              fetched_.push_back(str(made.name, " ", made.offset[0]));
              return values;
            }};
  }

  // Names and first rows, in alphabetical order.
  std::vector<std::string> fetched() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> sorted = fetched_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
  std::int64_t peak_bytes() const { return memory_->peak_bytes(); }

 private:
  std::shared_ptr<CachingAllocator> memory_ = std::make_shared<CachingAllocator>(Device{});
  mutable std::mutex mutex_;
  std::vector<std::string> fetched_;
};

TEST(PromisedSlices, OneIsInMemoryAtATime) {
  const TemporaryFolder scratch;
  Source source;
  std::vector<PromisedSlice> slices;
  for (int i = 0; i < 9; ++i) slices.push_back(source.promise(i));
  save_checkpoint(scratch.path(), info_of(1), slices, *self_communicator(), {});
  EXPECT_EQ(source.fetched().size(), 9u);
  EXPECT_EQ(source.peak_bytes(), kTensorBytes);
  const CheckpointReader reader(scratch.path() / "step_00000001");
  for (int i = 0; i < 9; ++i) expect_reads(reader, whole_of(source.tensor(i)));
}

TEST(PromisedSlices, AreFetchedOnceByTheRankThatWrites) {
  const TemporaryFolder scratch;
  Source source;
  run_ranks(4, [&](std::shared_ptr<Communicator> world) {  // dp2 x tp2
    std::vector<PromisedSlice> slices;
    for (int i = 0; i < 3; ++i) slices.push_back(source.promise(i, 2, world->rank() % 2));
    save_checkpoint(scratch.path(), info_of(1, 2, 2), slices, *world, {});
  });
  EXPECT_EQ(source.fetched(),
            (std::vector<std::string>{"parameters/w0 0", "parameters/w0 32", "parameters/w1 0",
                                      "parameters/w1 32", "parameters/w2 0", "parameters/w2 32"}));
  const CheckpointReader reader(scratch.path() / "step_00000001");
  for (int i = 0; i < 3; ++i) expect_reads(reader, whole_of(source.tensor(i)));
}

TEST(PromisedSlices, AreNotFetchedForASaveThatCannotBegin) {
  const TemporaryFolder scratch;
  Source source;
  const std::string error = user_error([&] {
    save_checkpoint(scratch.path(), info_of(1), {source.promise(0), source.promise(1, 2, 0)},
                    *self_communicator(), {});
  });
  expect_mentions(error, {"'parameters/w1'", "no rank holds [32:64, 0:256]"});
  EXPECT_EQ(source.fetched(), std::vector<std::string>{});
}

TEST(PromisedSlices, OnesThatCannotBeFetchedFailTheSaveOnAllRanks) {
  Source source;
  PromisedSlice unreadable = source.promise(1), other = source.promise(2);
  unreadable.fetch = []() -> Tensor { throw UserError("the source is gone"); };
  other.fetch = [] { return Tensor::zeros({kColumns, kRows}, DType::f32); };
  const std::vector<std::pair<PromisedSlice, std::vector<std::string>>> cases = {
      {unreadable, {"not saved: rank 1: the source is gone"}},
      {other, {"rank 1", "'parameters/w2' was promised as f32[64, 256]", "as f32[256, 64]"}}};
  for (const auto& [promise, parts] : cases) {
    const TemporaryFolder scratch;
    std::vector<std::string> errors(2);
    run_ranks(2, [&](std::shared_ptr<Communicator> world) {
      std::vector<PromisedSlice> slices;
      if (world->rank() == 1) slices.push_back(promise);
      errors[static_cast<std::size_t>(world->rank())] =
          user_error([&] { save_checkpoint(scratch.path(), info_of(1, 2), slices, *world, {}); });
    });
    EXPECT_EQ(errors[0], errors[1]);
    expect_mentions(errors[0], parts);
    EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace filigree
