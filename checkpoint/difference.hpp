// Two checkpoints, tensor by tensor, whatever layouts they were saved on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"

namespace filigree {

struct TensorDifference {
  std::string name;
  // "": dtype and shape are the same and the values were compared. Otherwise what is not, such as
  // "only in the first" or "f32[4, 8] and f32[4, 16]".
  std::string form;
  std::int64_t values = 0;      // of the tensor
  std::int64_t differing = 0;   // of them, those whose bits differ
  double largest = 0;           // |a - b| over all; NaN where only one of them is a number
  double largest_relative = 0;  // |a - b| / max(|a|, |b|)
  bool same() const { return form.empty() && differing == 0; }
};

// Of every tensor of either, by name. Reads a few MiB of each at a time, all of both in the end,
// against their hashes; throws UserError as CheckpointReader::read does. `progress` gets bytes done
// and in all, of the first.
std::vector<TensorDifference> compare_checkpoints(
    const CheckpointReader& first, const CheckpointReader& second,
    const std::function<void(std::int64_t, std::int64_t)>& progress = {});

}  // namespace filigree
