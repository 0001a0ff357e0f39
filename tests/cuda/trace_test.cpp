// What a profiler sees of training: this test takes a profiler's place, through the door that NVTX
// has for one that is linked in.
#include <gtest/gtest.h>

#ifdef FILIGREE_NVTX
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/cuda/compared_run.hpp"
#include "tests/cuda/trained_run.hpp"

namespace {

// While a test listens: the ranges that open ranges lie in, "step/forward/matmul", as they begin.
std::vector<std::string>* heard = nullptr;
thread_local std::vector<std::string> open_ranges;

int push(const char* name) {
  open_ranges.push_back(open_ranges.empty() ? name : open_ranges.back() + "/" + name);
  if (heard != nullptr) heard->push_back(open_ranges.back());
  return static_cast<int>(open_ranges.size()) - 1;
}

int pop() {
  open_ranges.pop_back();
  return static_cast<int>(open_ranges.size());
}

int initialize(NvtxGetExportTableFunc_t export_table) {
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned int count = 0;
  if (callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &count) != 1) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}

// Before NVTX is called for the first time, when it looks there.
[[maybe_unused]] const auto installed = InitializeInjectionNvtx2_fnptr = initialize;

}  // namespace

namespace filigree {
namespace {

std::int64_t times(const std::vector<std::string>& ranges, const std::string& range) {
  return std::count(ranges.begin(), ranges.end(), range);
}

TEST(Trace, NamesTheStretchesOfAStepWhetherItIsReplayedOrNot) {
  RunConfig config = testing::compared_run("dense", "f32");
  config.train.steps = 5;  // a plain one, one that is captured, two replayed, a measured one
  std::vector<std::string> ranges;
  heard = &ranges;
  testing::train_on_gpu(config, 1);
  heard = nullptr;
  EXPECT_TRUE(open_ranges.empty());
  EXPECT_EQ(times(ranges, "step"), 5);
  EXPECT_EQ(times(ranges, "step/data"), 5);
  EXPECT_EQ(times(ranges, "step/replay"), 3);
  EXPECT_EQ(times(ranges, "step/forward"), times(ranges, "step/backward"));
  EXPECT_GE(times(ranges, "step/forward"), 3);
  EXPECT_GT(times(ranges, "step/forward/attention_forward"), 0);
  EXPECT_GT(times(ranges, "step/backward/attention_backward"), 0);
  EXPECT_GT(times(ranges, "step/adamw"), 0);
}

}  // namespace
}  // namespace filigree

#else

TEST(Trace, NamesTheStretchesOfAStepWhetherItIsReplayedOrNot) {
  GTEST_SKIP() << "built without NVTX";
}

#endif
