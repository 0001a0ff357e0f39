// Which accesses of a block's threads happen before which: the state behind the race checks.
//
// One clock ticks at every synchronisation; each access is stamped with its thread and the clock.
// An access (u, s) is ordered before what thread t does now when t has learnt of u's doings up to
// s. A barrier of the whole block teaches everybody everything, so that one number stands for it; a
// whole warp's likewise. Only parts of warps need a table.
#pragma once

#include <cstdint>
#include <vector>

namespace simt {

class BlockOrder {
 public:
  // A block of `threads` starts; `clock` counts on over blocks and kernels.
  void start(std::uint64_t* clock, int threads);

  bool ordered(int u, std::uint64_t stamp, int t) const {
    if (stamp <= block_ || u == t) return true;
    if ((u >> 5) == (t >> 5) && (stamp <= warp_[t >> 5] || stamp <= lanes_[(t << 5) | (u & 31)])) {
      return true;
    }
    return tabled_ && stamp <= table_[t * threads_ + u];
  }
  std::uint64_t block_time() const { return block_; }

  void block_barrier();
  // All lanes of `mask` of a warp of `lanes` threads have met.
  void warp_meeting(int warp, std::uint32_t mask, std::uint32_t all);

  // What a release publishes: for each thread the time up to which its doings are known.
  using Knowledge = std::vector<std::uint64_t>;
  // Adds what `t` knows to `sink`; its later accesses are not covered.
  void release(int t, Knowledge& sink);
  void acquire(int t, const Knowledge& source);
  // From now on `t` knows what `source` says and nothing else.
  void become(int t, const Knowledge& source);

 private:
  void make_table();

  std::uint64_t* clock_ = nullptr;
  int threads_ = 0;
  bool tabled_ = false;
  std::uint64_t block_ = 0;
  std::vector<std::uint64_t> warp_;   // [warp]
  std::vector<std::uint64_t> lanes_;  // [thread][lane]
  std::vector<std::uint64_t> table_;  // [thread][thread], made on first need
};

}  // namespace simt
