// Memory of one device: what it is used for, a caching allocator, and the table of high-water
// marks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/core/device.hpp"

namespace filigree {

enum class MemoryUse : std::uint8_t {
  parameters,
  gradients,
  optimizer,
  activations,
  workspace,
  communication,
  data,
  cache
};
inline constexpr std::size_t kMemoryUses = 8;
const char* name_of(MemoryUse use);

struct MemoryRow {
  std::string name;
  std::int64_t live_bytes = 0;  // handed out now
  std::int64_t peak_bytes = 0;  // most handed out at once
};

// Hands out blocks aligned to 64 bytes. Thread-safe. Throws UserError when the system has no more.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual Device device() const = 0;
  virtual void* allocate(std::int64_t bytes, MemoryUse use) = 0;
  virtual void release(void* block, std::int64_t bytes, MemoryUse use) noexcept = 0;
};

// Where a caching allocator takes its blocks from: host memory, or that of an accelerator.
class SystemMemory {
 public:
  virtual ~SystemMemory() = default;
  virtual Device device() const = 0;
  virtual void* take(std::int64_t bytes) = 0;  // aligned to 64 bytes; null when there is no more
  virtual void give_back(void* block) noexcept = 0;
};

// Keeps freed blocks in lists by size class and hands them out again, so that a training step
// allocates nothing from the system after warm-up. Where the system has no more, blocks that are
// kept for other sizes go back to it first. Size classes are powers of two split in four.
//
// On an accelerator a block that is freed is handed out again while kernels that use it may still
// be in the stream's queue. That is right as long as the next user works on the same stream, which
// runs in order; work on another stream waits for an event, and whoever enqueues it keeps the
// tensor until the event is recorded.
class CachingAllocator final : public Allocator,
                               public std::enable_shared_from_this<CachingAllocator> {
 public:
  explicit CachingAllocator(Device device);  // of the CPU
  explicit CachingAllocator(std::unique_ptr<SystemMemory> system);
  ~CachingAllocator() override;

  Device device() const override { return system_->device(); }
  void* allocate(std::int64_t bytes, MemoryUse use) override;
  void release(void* block, std::int64_t bytes, MemoryUse use) noexcept override;

  // One row per use, then "total" (handed out) and "reserved" (taken from the system).
  std::vector<MemoryRow> table() const;
  std::int64_t peak_bytes() const;
  std::int64_t reserved_bytes() const;
  // How often the system was asked; constant from step to step after warm-up.
  std::int64_t system_allocations() const;
  // Gives every cached block back to the system.
  void trim();

  // Another allocator of the same memory. Its blocks go to nobody else while it lives, not even
  // back to the system: captured work, which is run again and again, holds their addresses. What
  // runs between may use them through it, since the work writes them before it reads them; what
  // must stay as it is has to come from elsewhere. Counted in this allocator's table.
  std::shared_ptr<Allocator> arena();

 private:
  class Arena;
  using KeptBlocks = std::map<std::int64_t, std::vector<void*>>;  // by rounded size

  void* hand_out(KeptBlocks& kept, std::int64_t bytes, MemoryUse use);
  void take_back(KeptBlocks& kept, void* block, std::int64_t bytes, MemoryUse use) noexcept;
  void give_back_kept_blocks();

  struct Usage {
    std::int64_t live = 0, peak = 0;
  };
  std::unique_ptr<SystemMemory> system_;
  mutable std::mutex mutex_;
  KeptBlocks free_;
  std::array<Usage, kMemoryUses> usage_{};
  Usage total_, reserved_;
  std::int64_t system_allocations_ = 0;
};

// The process-wide CPU allocator, for code outside a training step (tools, tests).
const std::shared_ptr<CachingAllocator>& host_allocator();

}  // namespace filigree
