// Names for stretches of a thread's time, shown by NVIDIA's profilers (Nsight Systems).
#pragma once

#ifdef FILIGREE_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace filigree {

// From construction to destruction; they nest. Nothing at all where FILIGREE_NVTX is not defined,
// and next to nothing where no profiler is attached.
class TraceRange {
 public:
#ifdef FILIGREE_NVTX
  explicit TraceRange(const char* name) { nvtxRangePushA(name); }
  ~TraceRange() { nvtxRangePop(); }
#else
  explicit TraceRange(const char*) {}
  ~TraceRange() {}  // NOLINT(modernize-use-equals-default): else the object would be unused
#endif
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace filigree
