#include "tests/harness/simt/engine/memory_check.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <sstream>

#ifdef SIMT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace simt {
namespace {

// Addresses of the dynamic arena; what lies past the block's own size is out of its bounds.
constexpr std::size_t kArenaBytes = std::size_t{1} << 20;
constexpr int kPoisonByte = 0xff;

const char* verb(Access access) {
  return access == Access::read ? "reads" : access == Access::write ? "writes" : "updates";
}

std::string amount(std::size_t bytes) {
  return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

std::string position_text(uint3 v) {
  std::string text = "(";
  text += std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z);
  return text += ")";
}

}  // namespace

MemoryCheck::MemoryCheck(DeviceMemory& memory, std::uint64_t& clock)
    : memory_(memory), clock_(clock) {
  void* arena = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<unsigned char*>(arena);
  dynamic_.place(reinterpret_cast<std::uintptr_t>(arena), kMaxSharedBytes);
}

void MemoryCheck::SharedRegion::place(std::uintptr_t new_base, std::size_t new_bytes) {
  base = new_base;
  bytes = new_bytes;
  cells.resize(bytes / SharedCell::kBytes + 1);
  written.resize(bytes);
}

void MemoryCheck::begin_operation(History& history) {
  history_ = &history;
  floor_ = history.floor();
  blocks_.clear();
  in_block_ = false;
}

void MemoryCheck::begin_block(const Block& block) {
  const AddressRange locals = block.thread_locals();
  static_.place(locals.begin, locals.end - locals.begin);
  dynamic_.bytes = block.shape().shared_bytes;
#ifdef SIMT_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(arena_, dynamic_.bytes);
  __asan_poison_memory_region(arena_ + dynamic_.bytes, kArenaBytes - dynamic_.bytes);
#endif
  std::memset(arena_, kPoisonByte, dynamic_.bytes);
  ++block_number_;
  blocks_.push_back({++clock_, 0, block.position()});
  acquired_ = false;
  in_block_ = true;
}

void MemoryCheck::access(const void* pointer, std::size_t bytes, Access access,
                         const void* caller) {
  if (!enabled_ || bytes == 0) return;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (memory_.holds(address)) return device_access(address, bytes, access, caller);
  if (address - dynamic_.base < kArenaBytes) {
    return shared_access(dynamic_, address - dynamic_.base, bytes, access, caller);
  }
  if (address - static_.base < static_.bytes) {
    return shared_access(static_, address - static_.base, bytes, access, caller);
  }
  other_access(address, bytes, access, caller);
}

void MemoryCheck::other_access(std::uintptr_t address, std::size_t bytes, Access access,
                               const void* caller) {
  const Block& block = *running_block;
  const auto& kernel = block.kernel();
  if (address - reinterpret_cast<std::uintptr_t>(kernel.arguments) < kernel.argument_bytes) return;
  std::ostringstream text;
  text << verb(access) << ' ' << amount(bytes) << " at " << reinterpret_cast<void*>(address);
  if (block.stacks().holds(address)) {
    const int owner = block.stacks().owner(address);
    if (owner == running_thread->index) return;
    fail(text.str() + ", a local variable of thread " + std::to_string(owner), caller);
  }
  if (in_static_data(address)) return;
  fail(text.str() + ": neither device memory, nor shared, nor its own: a host pointer?", caller);
}

void MemoryCheck::shared_access(SharedRegion& region, std::size_t offset, std::size_t bytes,
                                Access access, const void* caller) {
  if (offset + bytes > region.bytes) {
    fail(std::string(verb(access)) + " bytes " + std::to_string(offset) + " to " +
             std::to_string(offset + bytes - 1) + " of shared memory, of which the block has " +
             std::to_string(region.bytes),
         caller);
  }
  if (!kSeesEveryAccess) return;
  if (access != Access::write) check_written(region, offset, bytes, caller);
  const Thread& thread = *running_thread;
  const BlockOrder& order = running_block->order();
  const bool atomic = access == Access::atomic;
  const auto races = [&](Stamp stamp, unsigned mask) {
    return stamp.time() > order.block_time() && (stamp.mask() & mask) != 0 &&
           !(stamp.atomic() && atomic) &&
           !order.ordered(stamp.thread(), stamp.time(), thread.index);
  };
  const auto race = [&](std::size_t at, Stamp stamp, const char* earlier) {
    fail(std::string("race in shared memory: ") + verb(access) + " byte " + std::to_string(at) +
             ", which " + running_block->describe_thread(stamp.thread()) + ' ' + earlier +
             " with no barrier between",
         caller);
  };
  const std::size_t end = offset + bytes;
  for (std::size_t at = offset & ~std::size_t{1}; at < end; at += SharedCell::kBytes) {
    SharedCell& cell = region.cells[at / SharedCell::kBytes];
    const unsigned mask = touched(at, SharedCell::kBytes, offset, end);
    if (races(cell.write, mask)) race(at, cell.write, "wrote");
    const Stamp stamp(clock_, thread.index, mask, atomic);
    if (access != Access::read) {
      for (const Stamp& reader : cell.readers) {
        if (races(reader, mask)) race(at, reader, "read");
      }
      cell.write = stamp;
      continue;
    }
    Stamp* slot = &cell.readers[0];
    const auto replaceable = [&](const Stamp& old) {
      return old.time() <= order.block_time() ||
             (old.thread() == thread.index && old.mask() == mask);
    };
    if (!replaceable(*slot)) {
      slot = &cell.readers[1];
      // Readers of two warps say more than two of one.
      const bool crowded = cell.readers[0].thread() >> 5 == cell.readers[1].thread() >> 5 &&
                           thread.warp() != cell.readers[0].thread() >> 5;
      if (!replaceable(*slot) && !crowded && running_block->random().below(4) != 0) continue;
    }
    *slot = stamp;
  }
  if (access != Access::read) {
    std::fill_n(region.written.begin() + static_cast<std::ptrdiff_t>(offset), bytes, block_number_);
  }
}

void MemoryCheck::check_written(const SharedRegion& region, std::size_t offset, std::size_t bytes,
                                const void* caller) {
  for (std::size_t at = offset; at < offset + bytes; ++at) {
    if ((region.written[at] & ~kByProxy) == block_number_) continue;
    fail(
        "reads byte " + std::to_string(at) +
            " of shared memory, which nobody has written in this block (or whose asynchronous copy "
            "has not been waited for)",
        caller);
  }
}

void MemoryCheck::in_flight(const void* pointer, std::size_t bytes, const void* caller) {
  if (!enabled_) return;
  access(pointer, bytes, Access::write, caller);
  conceal(pointer, bytes);
}

MemoryCheck::SharedRegion& MemoryCheck::region_of(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) - dynamic_.base < kArenaBytes ? dynamic_
                                                                                 : static_;
}

void MemoryCheck::conceal(const void* pointer, std::size_t bytes) {
  if (!enabled_) return;
  SharedRegion& region = region_of(pointer);
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(pointer) - region.base;
  std::fill_n(region.written.begin() + static_cast<std::ptrdiff_t>(offset), bytes, 0u);
}

void MemoryCheck::reveal(const void* pointer, std::size_t bytes) {
  if (!enabled_) return;
  SharedRegion& region = region_of(pointer);
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(pointer) - region.base;
  std::fill_n(region.written.begin() + static_cast<std::ptrdiff_t>(offset), bytes,
              block_number_ | kByProxy);
}

void MemoryCheck::check_landed(const void* pointer, std::size_t bytes) {
  if (!enabled_ || !kSeesEveryAccess) return;
  const SharedRegion& region = region_of(pointer);
  check_written(region, reinterpret_cast<std::uintptr_t>(pointer) - region.base, bytes, nullptr);
}

void MemoryCheck::proxy_read(const void* pointer, std::size_t bytes) {
  access(pointer, bytes, Access::read, nullptr);
  if (!enabled_ || !kSeesEveryAccess) return;
  const SharedRegion& region = region_of(pointer);
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(pointer) - region.base;
  for (std::size_t at = offset; at < offset + bytes; at += SharedCell::kBytes) {
    if ((region.written[at] & kByProxy) != 0) continue;
    const Stamp write = region.cells[at / SharedCell::kBytes].write;
    if (write.time() <= running_block->thread(write.thread()).proxy_fence) continue;
    fail("hands byte " + std::to_string(at) + " of shared memory to wgmma, which " +
             running_block->describe_thread(write.thread()) +
             " stored and did not fence for it (fence.proxy.async)",
         nullptr);
  }
}

bool MemoryCheck::in_shared(const void* pointer) const {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  return address - dynamic_.base < kArenaBytes || address - static_.base < static_.bytes;
}

std::string MemoryCheck::describe(const void* pointer) const {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (address - dynamic_.base < kArenaBytes) {
    return "byte " + std::to_string(address - dynamic_.base) + " of shared memory";
  }
  if (memory_.holds(address)) return memory_.describe(address);
  std::ostringstream text;
  text << "address " << pointer;
  return text.str();
}

void MemoryCheck::check_live(std::uintptr_t address, std::size_t bytes, Access access,
                             const void* caller) {
  const Allocation* allocation = memory_.around(address);
  if (allocation != nullptr && allocation->life == Life::live && address >= allocation->begin &&
      address + bytes <= allocation->begin + allocation->bytes) {
    return;
  }
  fail(std::string(verb(access)) + ' ' + amount(bytes) + " at " + memory_.describe(address),
       caller);
}

void MemoryCheck::device_access(std::uintptr_t address, std::size_t bytes, Access access,
                                const void* caller) {
  check_live(address, bytes, access, caller);
  if (!kSeesEveryAccess) return;
  const int thread = in_block_ ? running_thread->index : 0;
  const bool atomic = access == Access::atomic;
  const std::uintptr_t end = address + bytes;
  for (std::uintptr_t at = address & ~std::uintptr_t{3}; at < end; at += DeviceCell::kBytes) {
    DeviceCell& cell = memory_.cell(at);
    const unsigned mask = touched(at, DeviceCell::kBytes, address, end);
    if (cell.write.time() >= floor_ && (cell.write.mask() & mask) != 0 &&
        !(atomic && cell.write.atomic())) {
      device_conflict(at, cell.write, access, true, caller);
    }
    const Stamp stamp(clock_, thread, mask, atomic);
    if (access != Access::read) {
      if (cell.reader.time() >= floor_ && (cell.reader.mask() & mask) != 0) {
        device_conflict(at, cell.reader, access, false, caller);
      }
      cell.write = stamp;
    } else if (cell.reader.time() < floor_ || conflict(cell.reader).empty() ||
               (clock_ ^ at >> 2) % 2 == 0) {
      cell.reader = stamp;
    }
  }
}

std::string MemoryCheck::conflict(Stamp stamp) const {
  const std::uint64_t time = stamp.time();
  if (time < history_->start()) {
    const Place* other = history_->unordered(time);
    if (other == nullptr) return {};
    return other->name + " on stream " + std::to_string(other->stream) +
           ", and no event or stream orders it before " + history_->running().name + " on stream " +
           std::to_string(history_->running().stream);
  }
  if (!in_block_) return {};
  if (time >= blocks_.back().start) {
    if (running_block->order().ordered(stamp.thread(), time, running_thread->index)) return {};
    return running_block->describe_thread(stamp.thread()) +
           " of the same block with no barrier between";
  }
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), time,
                       [](std::uint64_t t, const BlockRecord& record) { return t < record.start; });
  const BlockRecord& other = *std::prev(after);
  if (acquired_ && time <= other.released) return {};
  return "thread " + std::to_string(stamp.thread()) + " of block " + position_text(other.position) +
         " of the same launch";
}

void MemoryCheck::device_conflict(std::uintptr_t address, Stamp stamp, Access access,
                                  bool stamp_writes, const void* caller) {
  const std::string other = conflict(stamp);
  if (other.empty()) return;
  fail(std::string("race in device memory: ") + verb(access) + ' ' + memory_.describe(address) +
           ", which is " + (stamp_writes ? "written" : "read") + " by " + other,
       caller);
}

void MemoryCheck::operation_access(const void* pointer, std::size_t bytes, Access access) {
  if (!enabled_ || bytes == 0) return;
  in_block_ = false;
  device_access(reinterpret_cast<std::uintptr_t>(pointer), bytes, access, nullptr);
}

void MemoryCheck::fail(const std::string& what, const void* caller) {
  if (!in_block_) throw Fault(history_->running().name + ": " + what);
  const std::string where = caller == nullptr ? "" : " (in " + function_name(caller) + ")";
  running_block->fail(what + where);
}

void MemoryCheck::device_fence() {
  if (!blocks_.empty()) blocks_.back().released = clock_++;
}

void MemoryCheck::device_atomic() {
  acquired_ = true;
  device_fence();
}

}  // namespace simt
