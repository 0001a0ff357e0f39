// Tensors whose values say where they are, sliced over ranks in every way a layout can.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/folders.hpp"
#include "checkpoint/region.hpp"
#include "parallel/run_ranks.hpp"
#include "runtime/core/random.hpp"
#include "tests/harness/bits.hpp"
#include "tests/harness/no_warning.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree::checkpoint_testing {

namespace fs = std::filesystem;
using testing::FolderTest;
using testing::no_warning;
using testing::same_bits;
using testing::TemporaryFolder;
using testing::user_error;

inline Tensor random_bits(const Shape& shape, DType dtype, const std::string& name,
                          std::uint64_t seed = 1) {
  return testing::random_bits(shape, dtype, hash_text(name), seed);
}

struct GlobalTensor {
  std::string name;
  Tensor values;
};

inline NamedTensor slice_of(const GlobalTensor& global, const Region& region) {
  NamedTensor named{global.name, Tensor::empty(region.shape(), global.values.dtype()),
                    global.values.shape(), region.offset()};
  copy_part(region, size_of(global.values.dtype()),
            static_cast<const std::byte*>(global.values.raw()), whole_region(global.values.shape()),
            static_cast<std::byte*>(named.tensor.raw()), region);
  return named;
}

inline NamedTensor whole_of(const GlobalTensor& global) {
  return slice_of(global, whole_region(global.values.shape()));
}

// The part of rank `rank` of `size` along `dim`.
inline NamedTensor shard_of(const GlobalTensor& global, int dim, int size, int rank) {
  const ShardRange range = shard_range(global.values.shape()[dim], size, rank);
  Region region = whole_region(global.values.shape());
  region.begin[dim] = range.begin;
  region.end[dim] = range.end;
  return slice_of(global, region);
}

inline std::vector<PromisedSlice> promised(const std::vector<NamedTensor>& tensors) {
  return {tensors.begin(), tensors.end()};
}

// The same tensor with every byte poisoned, to be read into.
inline NamedTensor poisoned(const NamedTensor& named) {
  NamedTensor copy = named;
  copy.tensor = Tensor::empty(named.tensor.shape(), named.tensor.dtype());
  std::memset(copy.tensor.raw(), 0xff, static_cast<std::size_t>(copy.tensor.bytes()));
  return copy;
}

inline void expect_reads(const CheckpointReader& reader, const NamedTensor& expected) {
  const NamedTensor target = poisoned(expected);
  reader.read(target);
  EXPECT_TRUE(same_bits(target.tensor, expected.tensor)) << expected.name;
}

inline CheckpointInfo info_of(std::int64_t step, int data = 1, int tensor = 1) {
  CheckpointInfo info;
  info.step = step;
  info.mesh.data = data;
  info.mesh.tensor = tensor;
  info.config_hash = "0123abcd";
  info.state = {{"consumed_samples", step * 8}, {"seed", 18446744073709551615u}, {"best", 0.1}};
  info.config = {{"model.layers", 6}, {"model.width", 256}};
  return info;
}

inline void expect_mentions(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
  }
}

inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace filigree::checkpoint_testing
