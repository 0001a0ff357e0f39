// Keys and values, and what the attention mechanism keeps, of the tokens already processed, for
// generation.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "layers/sparsity/mechanism.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

struct DecodeCache {
  struct Layer {
    Tensor k_TGK, v_TGK;                              // [capacity, G*K] of this rank's groups
    std::unique_ptr<MechanismState> state = nullptr;  // made with the first tokens; may stay null
  };
  std::vector<Layer> layers;
  std::int64_t length = 0;  // tokens held
  std::int64_t capacity = 0;
};

}  // namespace filigree
