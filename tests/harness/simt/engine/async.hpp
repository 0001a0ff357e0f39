// What a block of compute capability 9.0 has in flight beside its threads: barriers in shared
// memory, copies that land by themselves, products of warpgroups.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/harness/simt/engine/order.hpp"

namespace simt {

struct SharedRange {
  unsigned char* begin;
  std::size_t bytes;
};

// One mbarrier. Its state is kept here: the eight bytes in shared memory only say where it is.
struct Mbarrier {
  std::uint32_t arrivals = 0;  // that a phase takes
  std::uint32_t missing = 0;   // in the running phase
  std::int64_t bytes = 0;      // announced and not landed; negative: landed, not announced
  std::uint64_t phase = 0;     // phases that have ended
  int maker = 0;
  bool fenced = false;                      // known to copies
  BlockOrder::Knowledge gathered, ended;    // of who arrived: in the running phase, in ended ones
  std::vector<SharedRange> landed, unseen;  // likewise; hidden until somebody has waited
};

// A copy under way.
struct Transfer {
  SharedRange to;
  BlockOrder::Knowledge knowledge;  // of who started it
  std::function<void()> land;
};

struct NamedBarrier {
  int expected = 0, arrived = 0;
  std::uint64_t generation = 0;
  BlockOrder::Knowledge gathered, ended;
};

// wgmma.mma_async of one warp: its 16 rows.
struct WarpProduct {
  int columns;
  bool a_in_registers, accumulate, a_is_transposed, b_is_transposed;
  std::uint64_t a, b;
  std::uint32_t fragments[32][4];
  float* sums[32];
  std::uint64_t group;
};

struct WarpProducts {
  std::vector<WarpProduct> issued;
  std::uint64_t group = 0;  // that the next product belongs to
  bool fenced = false;      // wgmma.fence since the last wait
  std::uint64_t count = 0;  // issued so far
  int registers = 0;        // of setmaxnreg; 0: as launched
};

// What the four warps of a warpgroup must issue alike.
struct ProductShape {
  int columns;
  std::uint64_t a, b;
  bool operator==(const ProductShape&) const = default;
};

struct AsyncState {
  std::map<std::uint32_t, Mbarrier> mbarriers;  // by shared address
  std::vector<Transfer> transfers;
  std::array<NamedBarrier, 16> named;
  std::array<WarpProducts, 32> warps;
  std::array<std::vector<ProductShape>, 8> warpgroups;

  // What is left of it when all threads have ended, in words; empty: nothing.
  std::string leftover() const;
  // Barriers whose phase somebody may wait for, for messages.
  std::string describe_mbarriers() const;
};

}  // namespace simt
