#include "runtime/core/memory.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/core/tensor.hpp"

// Sanitizers end the program on an allocation beyond their limit; here it must fail as it does
// without them.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

namespace filigree {
namespace {

MemoryRow row_of(const CachingAllocator& allocator, const std::string& name) {
  for (const MemoryRow& row : allocator.table())
    if (row.name == name) return row;
  ADD_FAILURE() << "no row " << name;
  return {};
}

TEST(CachingAllocator, AlignsAndHoldsTheWholeSize) {
  CachingAllocator allocator{Device{}};
  for (const std::int64_t bytes : {0, 1, 63, 64, 65, 511, 513, 1000, 4097, 1000003}) {
    void* block = allocator.allocate(bytes, MemoryUse::workspace);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0u) << bytes;
    std::memset(block, 1, static_cast<std::size_t>(bytes));
    allocator.release(block, bytes, MemoryUse::workspace);
  }
}

TEST(CachingAllocator, HandsAFreedBlockOutAgain) {
  CachingAllocator allocator{Device{}};
  void* first = allocator.allocate(1000, MemoryUse::workspace);
  allocator.release(first, 1000, MemoryUse::workspace);
  EXPECT_EQ(allocator.allocate(1001, MemoryUse::activations), first);  // same size class
  allocator.release(first, 1001, MemoryUse::activations);
  EXPECT_EQ(allocator.system_allocations(), 1);
}

TEST(CachingAllocator, LiveBlocksDoNotOverlap) {
  CachingAllocator allocator{Device{}};
  std::vector<unsigned char*> blocks;
  for (int i = 0; i < 20; ++i) {
    blocks.push_back(static_cast<unsigned char*>(allocator.allocate(300, MemoryUse::data)));
    std::memset(blocks.back(), i, 300);
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(blocks[i][0], i);
    EXPECT_EQ(blocks[i][299], i);
    allocator.release(blocks[i], 300, MemoryUse::data);
  }
}

TEST(CachingAllocator, WastesLessThanAQuarter) {
  CachingAllocator allocator{Device{}};
  for (std::int64_t bytes = 513; bytes < 3000000; bytes = bytes * 9 / 8 + 1) {
    void* block = allocator.allocate(bytes, MemoryUse::cache);
    const std::int64_t size = row_of(allocator, "cache").live_bytes;
    EXPECT_GE(size, bytes);
    EXPECT_LE(size, bytes * 5 / 4 + 64);
    allocator.release(block, bytes, MemoryUse::cache);
  }
}

// A step that makes and drops the same tensors asks the system only the first time.
TEST(CachingAllocator, AllocatesNothingAfterWarmUp) {
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  const auto step = [&] {
    std::vector<Tensor> saved;
    for (std::int64_t layer = 1; layer <= 8; ++layer) {
      const Tensor workspace = Tensor::empty({layer, 100}, DType::f32, allocator);
      saved.push_back(
          Tensor::empty({layer * 37, 10}, DType::bf16, allocator, MemoryUse::activations));
    }
  };
  step();
  const std::int64_t after_warm_up = allocator->system_allocations();
  EXPECT_GT(after_warm_up, 0);
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(allocator->system_allocations(), after_warm_up);
}

TEST(CachingAllocator, TableSaysWhoHeldHowMuchAtTheHighWaterMark) {
  CachingAllocator allocator{Device{}};
  void* parameters = allocator.allocate(1024, MemoryUse::parameters);
  void* activations = allocator.allocate(2048, MemoryUse::activations);
  allocator.release(activations, 2048, MemoryUse::activations);
  void* workspace = allocator.allocate(512, MemoryUse::workspace);
  EXPECT_EQ(row_of(allocator, "parameters").live_bytes, 1024);
  EXPECT_EQ(row_of(allocator, "activations").live_bytes, 0);
  EXPECT_EQ(row_of(allocator, "activations").peak_bytes, 2048);
  EXPECT_EQ(row_of(allocator, "total").live_bytes, 1536);
  EXPECT_EQ(row_of(allocator, "total").peak_bytes, 3072);
  EXPECT_EQ(allocator.peak_bytes(), 3072);
  EXPECT_EQ(allocator.reserved_bytes(), 3584);
  allocator.trim();
  EXPECT_EQ(allocator.reserved_bytes(), 1536);
  allocator.release(parameters, 1024, MemoryUse::parameters);
  allocator.release(workspace, 512, MemoryUse::workspace);
}

TEST(CachingAllocator, ServesThreadsAtOnce) {
  CachingAllocator allocator{Device{}};
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id)
    threads.emplace_back([&allocator, id] {
      for (int i = 0; i < 500; ++i) {
        const std::int64_t bytes = 64 + 64 * (i % 7);
        auto* block =
            static_cast<unsigned char*>(allocator.allocate(bytes, MemoryUse::communication));
        std::memset(block, id, static_cast<std::size_t>(bytes));
        EXPECT_EQ(block[bytes - 1], id);
        allocator.release(block, bytes, MemoryUse::communication);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(row_of(allocator, "total").live_bytes, 0);
}

// So much and no more.
class LittleMemory final : public SystemMemory {
 public:
  Device device() const override { return {}; }
  void* take(std::int64_t bytes) override {
    if (in_use_ + bytes > 10'000) return nullptr;
    in_use_ += bytes;
    void* const block = std::aligned_alloc(64, static_cast<std::size_t>(bytes));
    sizes_[block] = bytes;
    return block;
  }
  void give_back(void* block) noexcept override {
    in_use_ -= sizes_.at(block);
    std::free(block);
  }

 private:
  std::int64_t in_use_ = 0;
  std::map<void*, std::int64_t> sizes_;
};

TEST(CachingAllocator, GivesKeptBlocksBackBeforeItRunsOut) {
  CachingAllocator allocator{std::make_unique<LittleMemory>()};
  void* const kept = allocator.allocate(6000, MemoryUse::workspace);
  allocator.release(kept, 6000, MemoryUse::workspace);
  void* const other = allocator.allocate(8000, MemoryUse::workspace);
  EXPECT_EQ(row_of(allocator, "reserved").live_bytes, 8192);
  EXPECT_THROW(allocator.allocate(6000, MemoryUse::workspace), UserError);
  allocator.release(other, 8000, MemoryUse::workspace);
}

TEST(CachingAllocator, AnArenaKeepsItsBlocksToItself) {
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  std::shared_ptr<Allocator> arena = allocator->arena();
  void* const block = arena->allocate(1000, MemoryUse::workspace);
  arena->release(block, 1000, MemoryUse::workspace);
  void* const other = allocator->allocate(1000, MemoryUse::workspace);
  EXPECT_NE(other, block);
  allocator->trim();
  EXPECT_EQ(allocator->reserved_bytes(), 2048);
  void* const again = arena->allocate(1000, MemoryUse::activations);
  EXPECT_EQ(again, block);
  EXPECT_EQ(row_of(*allocator, "activations").live_bytes, 1024);
  EXPECT_EQ(row_of(*allocator, "total").live_bytes, 2048);
  EXPECT_EQ(allocator->system_allocations(), 2);
  arena->release(again, 1000, MemoryUse::activations);
  arena.reset();  // now everybody may have it
  EXPECT_EQ(allocator->allocate(1000, MemoryUse::workspace), block);
  allocator->release(block, 1000, MemoryUse::workspace);
  allocator->release(other, 1000, MemoryUse::workspace);
}

// Blocks that an arena could hand out are not given back; those of the others are.
TEST(CachingAllocator, AnArenaTakesWhatOthersDoNotUse) {
  const auto allocator = std::make_shared<CachingAllocator>(std::make_unique<LittleMemory>());
  const std::shared_ptr<Allocator> arena = allocator->arena();
  allocator->release(allocator->allocate(6000, MemoryUse::workspace), 6000, MemoryUse::workspace);
  arena->release(arena->allocate(8000, MemoryUse::workspace), 8000, MemoryUse::workspace);
  EXPECT_THROW(allocator->allocate(6000, MemoryUse::workspace), UserError);
}

TEST(CachingAllocator, OutOfMemoryIsTheUsersError) {
  CachingAllocator allocator{Device{}};
  EXPECT_THROW(allocator.allocate(std::int64_t{1} << 60, MemoryUse::workspace), UserError);
  EXPECT_EQ(row_of(allocator, "total").live_bytes, 0);
  EXPECT_THROW(allocator.allocate(-1, MemoryUse::workspace), InternalError);
}

}  // namespace
}  // namespace filigree
