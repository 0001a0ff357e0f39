// Emulated device memory: one reserved range of addresses for all devices, each allocation on pages
// of its own with unused pages around it. Addresses are not used twice before the next reset, so
// that a use after free is always seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/harness/simt/engine/shadow.hpp"

namespace simt {

enum class Life : std::uint8_t { pending, live, freed };

struct Allocation {
  std::uintptr_t begin = 0;
  std::size_t bytes = 0;
  int device = 0;
  Life life = Life::pending;
  bool stream_ordered = false;
};

class DeviceMemory {
 public:
  DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  ~DeviceMemory();

  void clear();

  // Null where the reserved range is used up. The memory is filled with NaN patterns when it goes
  // live.
  Allocation* allocate(std::size_t bytes, int device);
  void make_live(Allocation& allocation);
  void free(Allocation& allocation);
  std::size_t bytes_in_use(int device) const;

  // The allocation that begins at `pointer`, or null.
  Allocation* starting_at(const void* pointer);
  // The allocation whose pages hold `address`, or null.
  Allocation* around(std::uintptr_t address) {
    const std::uint32_t i = pages_[(address - base_) / kPage];
    return i == 0 ? nullptr : allocations_[i - 1].get();
  }
  bool holds(std::uintptr_t address) const { return address - base_ < kBytes; }
  DeviceCell& cell(std::uintptr_t address) const {
    return cells_[(address - base_) / DeviceCell::kBytes];
  }
  // "byte 12 of the 64 bytes of the allocation 0x..", for messages.
  std::string describe(std::uintptr_t address);

  // The host may touch device memory only between open() and close(); they nest.
  void open();
  void close();
  bool is_open() const { return open_ > 0; }

 private:
  static constexpr std::size_t kBytes = std::size_t{32} << 30;
  static constexpr std::size_t kPage = 4096;
  // What an allocation occupies; a page that nobody owns follows.
  static std::size_t span_of(std::size_t bytes) {
    return std::max<std::size_t>(1, (bytes + kPage - 1) / kPage) * kPage;
  }

  void protect(int protection) const;

  std::uintptr_t base_ = 0;
  std::size_t used_ = kPage;
  int open_ = 0;
  std::uint32_t* pages_ = nullptr;  // page -> allocation + 1
  DeviceCell* cells_ = nullptr;
  std::vector<std::unique_ptr<Allocation>> allocations_;
};

}  // namespace simt
