#include "runtime/core/memory.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kAlignment = 64;

// Next size class: 64-byte steps below 512 bytes, then four classes per power of two.
std::int64_t rounded(std::int64_t bytes) {
  if (bytes <= 512) return std::max<std::int64_t>(kAlignment, (bytes + 63) / 64 * 64);
  const auto power = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(bytes)));
  const std::int64_t step = power / 4;
  return (bytes + step - 1) / step * step;
}

class HostMemory final : public SystemMemory {
 public:
  Device device() const override { return {}; }
  void* take(std::int64_t bytes) override {
    return std::aligned_alloc(kAlignment, static_cast<std::size_t>(bytes));
  }
  void give_back(void* block) noexcept override { std::free(block); }
};

}  // namespace

const char* name_of(MemoryUse use) {
  constexpr std::array<const char*, kMemoryUses> names = {
      "parameters", "gradients",     "optimizer", "activations",
      "workspace",  "communication", "data",      "cache"};
  return names[static_cast<std::size_t>(use)];
}

CachingAllocator::CachingAllocator(Device device)
    : CachingAllocator(std::make_unique<HostMemory>()) {
  FILIGREE_CHECK(device.kind == DeviceKind::cpu, "memory of another device is not the host's");
}

CachingAllocator::CachingAllocator(std::unique_ptr<SystemMemory> system)
    : system_(std::move(system)) {}

CachingAllocator::~CachingAllocator() { trim(); }

class CachingAllocator::Arena final : public Allocator {
 public:
  explicit Arena(std::shared_ptr<CachingAllocator> whole) : whole_(std::move(whole)) {}
  ~Arena() override {
    std::lock_guard lock(whole_->mutex_);
    for (auto& [size, blocks] : kept_) {
      std::vector<void*>& free = whole_->free_[size];
      free.insert(free.end(), blocks.begin(), blocks.end());
    }
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Device device() const override { return whole_->device(); }
  void* allocate(std::int64_t bytes, MemoryUse use) override {
    return whole_->hand_out(kept_, bytes, use);
  }
  void release(void* block, std::int64_t bytes, MemoryUse use) noexcept override {
    whole_->take_back(kept_, block, bytes, use);
  }

 private:
  std::shared_ptr<CachingAllocator> whole_;
  KeptBlocks kept_;
};

std::shared_ptr<Allocator> CachingAllocator::arena() {
  return std::make_shared<Arena>(shared_from_this());
}

void* CachingAllocator::allocate(std::int64_t bytes, MemoryUse use) {
  return hand_out(free_, bytes, use);
}

void CachingAllocator::release(void* block, std::int64_t bytes, MemoryUse use) noexcept {
  take_back(free_, block, bytes, use);
}

void* CachingAllocator::hand_out(KeptBlocks& kept, std::int64_t bytes, MemoryUse use) {
  FILIGREE_CHECK(bytes >= 0, "negative size ", bytes);
  const std::int64_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (auto found = kept.find(size); found != kept.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
  } else {
    block = system_->take(size);
    if (block == nullptr) {
      give_back_kept_blocks();
      block = system_->take(size);
    }
    if (block == nullptr)
      throw UserError(str("out of memory: ", size, " bytes for ", name_of(use), " with ",
                          total_.live, " bytes in use; try a smaller micro batch or more ranks"));
    reserved_.live += size;
    reserved_.peak = std::max(reserved_.peak, reserved_.live);
    ++system_allocations_;
  }
  for (Usage* usage : {&usage_[static_cast<std::size_t>(use)], &total_}) {
    usage->live += size;
    usage->peak = std::max(usage->peak, usage->live);
  }
  return block;
}

void CachingAllocator::take_back(KeptBlocks& kept, void* block, std::int64_t bytes,
                                 MemoryUse use) noexcept {
  const std::int64_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  kept[size].push_back(block);
  usage_[static_cast<std::size_t>(use)].live -= size;
  total_.live -= size;
}

std::vector<MemoryRow> CachingAllocator::table() const {
  std::lock_guard lock(mutex_);
  std::vector<MemoryRow> rows;
  for (std::size_t i = 0; i < kMemoryUses; ++i)
    rows.push_back({name_of(static_cast<MemoryUse>(i)), usage_[i].live, usage_[i].peak});
  rows.push_back({"total", total_.live, total_.peak});
  rows.push_back({"reserved", reserved_.live, reserved_.peak});
  return rows;
}

std::int64_t CachingAllocator::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return total_.peak;
}

std::int64_t CachingAllocator::reserved_bytes() const {
  std::lock_guard lock(mutex_);
  return reserved_.live;
}

std::int64_t CachingAllocator::system_allocations() const {
  std::lock_guard lock(mutex_);
  return system_allocations_;
}

void CachingAllocator::trim() {
  std::lock_guard lock(mutex_);
  give_back_kept_blocks();
}

void CachingAllocator::give_back_kept_blocks() {
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) system_->give_back(block);
    reserved_.live -= size * static_cast<std::int64_t>(blocks.size());
    blocks.clear();
  }
}

const std::shared_ptr<CachingAllocator>& host_allocator() {
  static const std::shared_ptr<CachingAllocator> allocator =
      std::make_shared<CachingAllocator>(Device{});
  return allocator;
}

}  // namespace filigree
