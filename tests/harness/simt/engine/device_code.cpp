// What device code calls: positions, barriers, warp collectives.
#include <algorithm>
#include <bit>

#include <simt/warp.hpp>

#include "tests/harness/simt/engine/block.hpp"
#include "tests/harness/simt/engine/machine.hpp"

namespace simt {

unsigned char* shared_memory() {
  this_block("simt::shared_memory");
  return Machine::instance().check().shared_memory();
}

std::size_t shared_memory_bytes() {
  return this_block("simt::shared_memory_bytes").shape().shared_bytes;
}

namespace detail {
namespace {

struct ShuffleRequest {
  std::uint64_t bits, result;
  Shuffle kind;
  unsigned parameter;
  int width;
};

// The lane that `lane` reads (PTX ISA, "shfl.sync"): out of its segment it reads itself, except
// that an index is taken modulo the segment.
int source_lane(const ShuffleRequest& request, int lane) {
  const int segment = lane & ~(request.width - 1);
  const int within = lane - segment;
  const int distance = static_cast<int>(request.parameter);
  switch (request.kind) {
    case Shuffle::index:
      return segment + (distance & (request.width - 1));
    case Shuffle::up:
      return within - distance >= 0 ? lane - distance : lane;
    case Shuffle::down:
      return within + distance < request.width ? lane + distance : lane;
    case Shuffle::xor_:
      break;
  }
  const int target = lane ^ distance;
  return target < segment + request.width ? target : lane;
}

void complete_shuffle(void* const requests[32], std::uint32_t mask) {
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    auto& request = *static_cast<ShuffleRequest*>(requests[lane]);
    const int source = source_lane(request, lane);
    if (source < 0 || source > 31 || requests[source] == nullptr) {
      running_block->fail("shuffles lane " + std::to_string(lane) + " from lane " +
                          std::to_string(source) + ", which the mask does not name");
    }
    request.result = static_cast<const ShuffleRequest*>(requests[source])->bits;
  }
}

struct VoteRequest {
  std::uint64_t bits;
  std::uint32_t result;
};

void complete_ballot(void* const requests[32], std::uint32_t mask) {
  std::uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (requests[lane] == nullptr) continue;
    if (static_cast<const VoteRequest*>(requests[lane])->bits != 0) votes |= 1u << lane;
  }
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    static_cast<VoteRequest*>(requests[std::countr_zero(rest)])->result = votes;
  }
}

void complete_match(void* const requests[32], std::uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (requests[lane] == nullptr) continue;
    auto& request = *static_cast<VoteRequest*>(requests[lane]);
    request.result = 0;
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
      const int other = std::countr_zero(rest);
      if (static_cast<const VoteRequest*>(requests[other])->bits == request.bits) {
        request.result |= 1u << other;
      }
    }
  }
}

template <Reduction kind>
std::uint32_t combine(std::uint32_t a, std::uint32_t b) {
  const auto x = static_cast<std::int32_t>(a), y = static_cast<std::int32_t>(b);
  switch (kind) {
    case Reduction::add:
      return a + b;
    case Reduction::min_signed:
      return static_cast<std::uint32_t>(std::min(x, y));
    case Reduction::max_signed:
      return static_cast<std::uint32_t>(std::max(x, y));
    case Reduction::min_unsigned:
      return std::min(a, b);
    case Reduction::max_unsigned:
      return std::max(a, b);
    case Reduction::and_:
      return a & b;
    case Reduction::or_:
      return a | b;
    case Reduction::xor_:
      break;
  }
  return a ^ b;
}

template <Reduction kind>
void complete_reduce(void* const requests[32], std::uint32_t mask) {
  std::uint32_t rest = mask;
  auto value = static_cast<std::uint32_t>(
      static_cast<const VoteRequest*>(requests[std::countr_zero(rest)])->bits);
  while ((rest &= rest - 1) != 0) {
    value = combine<kind>(
        value, static_cast<std::uint32_t>(
                   static_cast<const VoteRequest*>(requests[std::countr_zero(rest)])->bits));
  }
  for (rest = mask; rest != 0; rest &= rest - 1) {
    static_cast<VoteRequest*>(requests[std::countr_zero(rest)])->result = value;
  }
}

template <Reduction kind>
std::uint32_t reduce_as(const char* name, unsigned mask, std::uint32_t value) {
  VoteRequest request{value, 0};
  this_block(name).warp_collective(name, mask, &request, complete_reduce<kind>);
  return request.result;
}

}  // namespace

uint3 thread_index() {
  this_block("threadIdx");
  return running_thread->position;
}
uint3 block_index() { return this_block("blockIdx").position(); }
dim3 block_extent() { return this_block("blockDim").shape().block; }
dim3 grid_extent() { return this_block("gridDim").shape().grid; }

std::uint64_t shuffle(Shuffle kind, unsigned mask, std::uint64_t bits, unsigned parameter,
                      int width) {
  static constexpr const char* kNames[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                           "__shfl_xor_sync"};
  const char* name = kNames[static_cast<int>(kind)];
  Block& block = this_block(name);
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    block.fail(std::string(name) + " with width " + std::to_string(width) +
               "; it must be a power of two up to 32");
  }
  ShuffleRequest request{bits, 0, kind, parameter, width};
  block.warp_collective(name, mask, &request, complete_shuffle);
  return request.result;
}

unsigned ballot(const char* name, unsigned mask, bool predicate) {
  VoteRequest request{predicate, 0};
  this_block(name).warp_collective(name, mask, &request, complete_ballot);
  return request.result;
}

unsigned match_any(unsigned mask, std::uint64_t bits) {
  VoteRequest request{bits, 0};
  this_block("__match_any_sync")
      .warp_collective("__match_any_sync", mask, &request, complete_match);
  return request.result;
}

std::uint32_t reduce(Reduction kind, unsigned mask, std::uint32_t value) {
  switch (kind) {
    case Reduction::add:
      return reduce_as<Reduction::add>("__reduce_add_sync", mask, value);
    case Reduction::min_signed:
      return reduce_as<Reduction::min_signed>("__reduce_min_sync", mask, value);
    case Reduction::max_signed:
      return reduce_as<Reduction::max_signed>("__reduce_max_sync", mask, value);
    case Reduction::min_unsigned:
      return reduce_as<Reduction::min_unsigned>("__reduce_min_sync", mask, value);
    case Reduction::max_unsigned:
      return reduce_as<Reduction::max_unsigned>("__reduce_max_sync", mask, value);
    case Reduction::and_:
      return reduce_as<Reduction::and_>("__reduce_and_sync", mask, value);
    case Reduction::or_:
      return reduce_as<Reduction::or_>("__reduce_or_sync", mask, value);
    case Reduction::xor_:
      break;
  }
  return reduce_as<Reduction::xor_>("__reduce_xor_sync", mask, value);
}

void warp_barrier(unsigned mask) {
  this_block("__syncwarp").warp_collective("__syncwarp", mask, nullptr, nullptr);
}

// Any answer that holds the own lane is right: which others run along is up to the hardware.
unsigned active_mask() {
  this_block("__activemask");
  return 1u << running_thread->lane();
}

int block_barrier(const char* name, bool predicate) {
  return this_block(name).block_barrier(name, predicate);
}

}  // namespace detail
}  // namespace simt

void __trap() { simt::this_block("__trap").fail("stops itself: __trap"); }
