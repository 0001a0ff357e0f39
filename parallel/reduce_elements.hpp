// Private to this folder: element-wise reduction of host buffers in a fixed order.
#pragma once

#include <span>

#include "parallel/communicator.hpp"

namespace filigree {

// Element i of every output = inputs[0][i] op inputs[1][i] op ..., in this order, bf16 in f32 and
// rounded once. An output may be one of the inputs.
void reduce_elements(DType dtype, ReduceOp op, std::span<const void* const> inputs,
                     std::span<void* const> outputs, std::int64_t count);

}  // namespace filigree
