// What is remembered about each few bytes of emulated memory, to find races.
#pragma once

#include <cstdint>

namespace simt {

enum class Access : std::uint8_t { read, write, atomic };

// One access: when (clock of the synchronisations), by which thread of the block, to which of the
// bytes of the cell, and whether it was atomic. 0: none.
class Stamp {
 public:
  Stamp() = default;
  Stamp(std::uint64_t time, int thread, unsigned mask, bool atomic)
      : bits_((time << 16) | (static_cast<std::uint64_t>(thread) << 5) | (mask << 1) |
              (atomic ? 1u : 0u)) {}
  std::uint64_t time() const { return bits_ >> 16; }
  int thread() const { return static_cast<int>((bits_ >> 5) & 0x7ff); }
  unsigned mask() const { return static_cast<unsigned>((bits_ >> 1) & 0xf); }
  bool atomic() const { return (bits_ & 1) != 0; }

 private:
  std::uint64_t bits_ = 0;
};

// Two bytes of shared memory, so that neighbouring bfloat16 are kept apart exactly. Two readers are
// kept: whoever writes is neither of them at most once, so that a race with a reader cannot hide
// behind the writer's own read.
struct SharedCell {
  static constexpr int kBytes = 2;
  Stamp write;
  Stamp readers[2];
};

// Four bytes of device memory.
struct DeviceCell {
  static constexpr int kBytes = 4;
  Stamp write;
  Stamp reader;
};

// Bytes of the cell at `cell_begin` that [begin, end) touches, one bit each.
inline unsigned touched(std::uint64_t cell_begin, int cell_bytes, std::uint64_t begin,
                        std::uint64_t end) {
  const unsigned low = begin > cell_begin ? static_cast<unsigned>(begin - cell_begin) : 0;
  const unsigned high = end < cell_begin + cell_bytes ? static_cast<unsigned>(end - cell_begin)
                                                      : static_cast<unsigned>(cell_bytes);
  return ((1u << high) - 1) & ~((1u << low) - 1);
}

}  // namespace simt
