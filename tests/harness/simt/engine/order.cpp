#include "tests/harness/simt/engine/order.hpp"

#include <algorithm>
#include <bit>

namespace simt {

void BlockOrder::start(std::uint64_t* clock, int threads) {
  clock_ = clock;
  threads_ = threads;
  tabled_ = false;
  block_ = (*clock)++;
  warp_.assign((threads + 31) / 32, block_);
  // Stamps of earlier blocks are below block_, so that the table need not be cleared.
  lanes_.resize(static_cast<std::size_t>(threads) * 32);
}

void BlockOrder::block_barrier() { block_ = (*clock_)++; }

void BlockOrder::warp_meeting(int warp, std::uint32_t mask, std::uint32_t all) {
  const std::uint64_t now = (*clock_)++;
  if (mask == all) {
    warp_[warp] = now;
  } else {
    std::uint64_t row[32] = {};
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
      const int t = warp * 32 + std::countr_zero(rest);
      for (int u = 0; u < 32; ++u) row[u] = std::max(row[u], lanes_[t * 32 + u]);
    }
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) row[std::countr_zero(rest)] = now;
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
      const int t = warp * 32 + std::countr_zero(rest);
      std::copy(row, row + 32, &lanes_[t * 32]);
    }
  }
  if (!tabled_) return;
  Knowledge joined;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    release(warp * 32 + std::countr_zero(rest), joined);
  }
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    acquire(warp * 32 + std::countr_zero(rest), joined);
  }
}

void BlockOrder::make_table() {
  if (tabled_) return;
  tabled_ = true;
  table_.assign(static_cast<std::size_t>(threads_) * threads_, block_);
  for (int t = 0; t < threads_; ++t) {
    const int first = t & ~31;
    for (int u = first; u < std::min(first + 32, threads_); ++u) {
      table_[t * threads_ + u] = std::max(warp_[t >> 5], lanes_[t * 32 + (u & 31)]);
    }
  }
}

void BlockOrder::release(int t, Knowledge& sink) {
  make_table();
  sink.resize(threads_, 0);
  std::uint64_t* row = &table_[t * threads_];
  row[t] = (*clock_)++;
  for (int u = 0; u < threads_; ++u) sink[u] = std::max(sink[u], row[u]);
}

void BlockOrder::become(int t, const Knowledge& source) {
  make_table();
  std::copy(source.begin(), source.end(), &table_[t * threads_]);
}

void BlockOrder::acquire(int t, const Knowledge& source) {
  make_table();
  std::uint64_t* row = &table_[t * threads_];
  for (std::size_t u = 0; u < source.size(); ++u) row[u] = std::max(row[u], source[u]);
}

}  // namespace simt
