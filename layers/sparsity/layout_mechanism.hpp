// What fixed patterns have in common as mechanisms. Of the published layouts of blocks: rows and
// columns are blocks of key_block tokens, every head's layout follows from its global number, and
// no layout depends on the length of the sequence (block_layout.hpp), so that decoding, one row at
// a time, reads what training read.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "layers/sparsity/block_layout.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

using LayoutFunction = BlockLayout (*)(const SparsityConfig&, const LayoutShape&);

// `name` must outlive the mechanism. Throws UserError when the layout cannot be made.
std::unique_ptr<AttentionMechanism> make_layout_mechanism(std::string_view name,
                                                          LayoutFunction layout,
                                                          const MechanismContext& context);

// Without blocks: `window` tokens up to the query and `sinks` first ones, everything where both are
// 0. `name` must outlive the mechanism.
std::unique_ptr<AttentionMechanism> make_window_mechanism(std::string_view name,
                                                          std::int64_t window, std::int64_t sinks,
                                                          const MechanismContext& context);

// sparsity.local_blocks, or what the layout's authors chose.
inline std::int64_t local_blocks_or(const SparsityConfig& config, std::int64_t published) {
  return config.local_blocks == 0 ? published : config.local_blocks;
}

// 0, 1, ..., count - 1.
std::vector<std::int64_t> first_blocks(std::int64_t count);

}  // namespace filigree
