// An allocator whose memory starts as NaN in every floating dtype, so that a kernel which reads
// workspace it has not written, or leaves part of an output unwritten, gives NaN.
#pragma once

#include <cstring>

#include "runtime/core/memory.hpp"

namespace filigree::testing {

class PoisonAllocator final : public Allocator {
 public:
  Device device() const override { return inner_.device(); }
  void* allocate(std::int64_t bytes, MemoryUse use) override {
    void* block = inner_.allocate(bytes, use);
    std::memset(block, 0xff, static_cast<std::size_t>(bytes));
    return block;
  }
  void release(void* block, std::int64_t bytes, MemoryUse use) noexcept override {
    inner_.release(block, bytes, use);
  }

 private:
  CachingAllocator inner_{Device{}};
};

}  // namespace filigree::testing
