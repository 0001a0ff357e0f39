#include "tests/harness/simt/engine/device_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <sstream>

#include "tests/harness/simt/engine/fibers.hpp"

#ifdef SIMT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace simt {
namespace {

void* reserve(std::size_t bytes, int protection) {
  void* base = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  return base;
}

void discard(const void* begin, std::size_t bytes) {
  if (bytes > 0) madvise(const_cast<void*>(begin), bytes, MADV_DONTNEED);
}

// A quiet NaN in f64, f32, f16 and bf16 alike, and a large negative integer.
constexpr int kPoisonByte = 0xff;

}  // namespace

DeviceMemory::DeviceMemory()
    : base_(reinterpret_cast<std::uintptr_t>(reserve(kBytes, PROT_NONE))),
      pages_(static_cast<std::uint32_t*>(
          reserve(kBytes / kPage * sizeof(std::uint32_t), PROT_READ | PROT_WRITE))),
      cells_(static_cast<DeviceCell*>(
          reserve(kBytes / DeviceCell::kBytes * sizeof(DeviceCell), PROT_READ | PROT_WRITE))) {}

DeviceMemory::~DeviceMemory() {
  munmap(reinterpret_cast<void*>(base_), kBytes);
  munmap(pages_, kBytes / kPage * sizeof(std::uint32_t));
  munmap(cells_, kBytes / DeviceCell::kBytes * sizeof(DeviceCell));
}

void DeviceMemory::clear() {
#ifdef SIMT_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(reinterpret_cast<void*>(base_), used_);
#endif
  discard(reinterpret_cast<void*>(base_), used_);
  discard(pages_, used_ / kPage * sizeof(std::uint32_t));
  discard(cells_, used_ / DeviceCell::kBytes * sizeof(DeviceCell));
  allocations_.clear();
  used_ = kPage;
  open_ = 0;
  protect(PROT_NONE);
}

Allocation* DeviceMemory::allocate(std::size_t bytes, int device) {
  const std::size_t span = span_of(bytes);
  if (used_ + span + kPage > kBytes) return nullptr;
  auto allocation = std::make_unique<Allocation>();
  allocation->begin = base_ + used_;
  allocation->bytes = bytes;
  allocation->device = device;
  allocations_.push_back(std::move(allocation));
  std::fill_n(pages_ + used_ / kPage, span / kPage,
              static_cast<std::uint32_t>(allocations_.size()));
  used_ += span + kPage;
  if (is_open()) protect(PROT_READ | PROT_WRITE);
  return allocations_.back().get();
}

void DeviceMemory::make_live(Allocation& allocation) {
  open();
  allocation.life = Life::live;
  std::memset(reinterpret_cast<void*>(allocation.begin), kPoisonByte, allocation.bytes);
#ifdef SIMT_ADDRESS_SANITIZER
  __asan_poison_memory_region(reinterpret_cast<void*>(allocation.begin + allocation.bytes),
                              span_of(allocation.bytes) + kPage - allocation.bytes);
#endif
  close();
}

void DeviceMemory::free(Allocation& allocation) {
  allocation.life = Life::freed;
#ifdef SIMT_ADDRESS_SANITIZER
  __asan_poison_memory_region(reinterpret_cast<void*>(allocation.begin), allocation.bytes);
#endif
  const std::size_t span = span_of(allocation.bytes);
  discard(reinterpret_cast<void*>(allocation.begin), span);
  discard(&cell(allocation.begin), span / DeviceCell::kBytes * sizeof(DeviceCell));
}

std::size_t DeviceMemory::bytes_in_use(int device) const {
  std::size_t sum = 0;
  for (const auto& allocation : allocations_) {
    if (allocation->device == device && allocation->life != Life::freed) sum += allocation->bytes;
  }
  return sum;
}

Allocation* DeviceMemory::starting_at(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (!holds(address)) return nullptr;
  Allocation* allocation = around(address);
  return allocation != nullptr && allocation->begin == address ? allocation : nullptr;
}

std::string DeviceMemory::describe(std::uintptr_t address) {
  std::ostringstream text;
  Allocation* allocation = around(address);
  // A little past the end or before the beginning belongs to the neighbour.
  if (allocation == nullptr && holds(address - kPage)) allocation = around(address - kPage);
  if (allocation == nullptr && holds(address + kPage)) allocation = around(address + kPage);
  if (allocation == nullptr) {
    text << "the device address " << reinterpret_cast<void*>(address)
         << ", far from any allocation";
    return text.str();
  }
  const auto offset = static_cast<std::int64_t>(address - allocation->begin);
  text << "byte " << offset << " of the " << allocation->bytes << " bytes of allocation "
       << reinterpret_cast<void*>(allocation->begin) << " (device " << allocation->device << ")";
  if (allocation->life == Life::freed) text << ", which has been freed";
  if (allocation->life == Life::pending) text << ", whose cudaMallocAsync has not run yet";
  return text.str();
}

void DeviceMemory::open() {
  if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
}

void DeviceMemory::close() {
  if (--open_ == 0) protect(PROT_NONE);
}

void DeviceMemory::protect(int protection) const {
  mprotect(reinterpret_cast<void*>(base_), used_, protection);
}

}  // namespace simt
