// Judges every access of device code: bounds, lifetime, initialisation, races.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/harness/simt/engine/block.hpp"
#include "tests/harness/simt/engine/device_memory.hpp"
#include "tests/harness/simt/engine/history.hpp"
#include "tests/harness/simt/engine/shadow.hpp"

namespace simt {

// Under AddressSanitizer plain accesses are its business, and only bounds and lifetimes are judged
// here.
#ifdef SIMT_ADDRESS_SANITIZER
inline constexpr bool kSeesEveryAccess = false;
#else
inline constexpr bool kSeesEveryAccess = true;
#endif

class MemoryCheck {
 public:
  // Dynamic shared memory that a block can have at most: 227 KiB, as compute capability 9.0 has it.
  static constexpr std::size_t kMaxSharedBytes = 227 * 1024;

  MemoryCheck(DeviceMemory& memory, std::uint64_t& clock);
  MemoryCheck(const MemoryCheck&) = delete;

  void enable(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  unsigned char* shared_memory() const { return arena_; }

  // An operation that `history` has begun; for a kernel, also each of its blocks.
  void begin_operation(History& history);
  void begin_block(const Block& block);

  // An access by the running thread; faults where it is wrong.
  void access(const void* address, std::size_t bytes, Access access, const void* caller);
  // An access of a copy or a collective. Throws Fault.
  void operation_access(const void* address, std::size_t bytes, Access access);

  // [address, address + bytes) of shared memory is about to be written asynchronously: whoever
  // reads it before written() is wrong.
  void in_flight(const void* address, std::size_t bytes, const void* caller);
  // The two halves of that for copies that land by themselves: hides what is in shared memory, and
  // shows it, written by the asynchronous proxy.
  void conceal(const void* address, std::size_t bytes);
  void reveal(const void* address, std::size_t bytes);
  // Faults where these bytes are not there yet; leaves no trace.
  void check_landed(const void* address, std::size_t bytes);
  // A read by the asynchronous proxy: stores of threads must have been fenced.
  void proxy_read(const void* address, std::size_t bytes);
  bool in_shared(const void* address) const;
  // An unchecked look for the emulator itself: "shared byte 12", "byte 3 of allocation ...".
  std::string describe(const void* address) const;

  // The running block made its writes visible, or saw what others made visible.
  void device_fence();
  void device_atomic();

 private:
  struct SharedRegion {
    std::uintptr_t base = 0;
    std::size_t bytes = 0;
    std::vector<SharedCell> cells;
    // By byte: the block that wrote it last, with kByProxy where a copy did.
    std::vector<std::uint32_t> written;

    void place(std::uintptr_t new_base, std::size_t new_bytes);
  };
  struct BlockRecord {
    std::uint64_t start, released;
    uint3 position;
  };

  static constexpr std::uint32_t kByProxy = 0x80000000u;

  SharedRegion& region_of(const void* address);
  void shared_access(SharedRegion& region, std::size_t offset, std::size_t bytes, Access access,
                     const void* caller);
  void device_access(std::uintptr_t address, std::size_t bytes, Access access, const void* caller);
  void check_live(std::uintptr_t address, std::size_t bytes, Access access, const void* caller);
  void check_written(const SharedRegion& region, std::size_t offset, std::size_t bytes,
                     const void* caller);
  void other_access(std::uintptr_t address, std::size_t bytes, Access access, const void* caller);
  // Why the access `stamp` races with the running one; empty when it does not.
  std::string conflict(Stamp stamp) const;
  void device_conflict(std::uintptr_t address, Stamp stamp, Access access, bool stamp_writes,
                       const void* caller);
  [[noreturn]] void fail(const std::string& what, const void* caller);

  DeviceMemory& memory_;
  std::uint64_t& clock_;
  bool enabled_ = true;
  unsigned char* arena_ = nullptr;
  SharedRegion dynamic_, static_;
  std::uint32_t block_number_ = 0;
  History* history_ = nullptr;
  std::uint64_t floor_ = 0;  // device accesses stamped earlier need no second look
  std::vector<BlockRecord> blocks_;
  bool acquired_ = false, in_block_ = false;
};

}  // namespace simt
