// Which key blocks every group of queries reads: what a sparse mechanism decides and block-sparse
// attention consumes.
#pragma once

#include <cstdint>

#include "runtime/core/tensor.hpp"

namespace filigree {

// Group n holds the queries at positions [n * query_block, (n + 1) * query_block) of a sequence,
// block m the keys at [m * key_block, (m + 1) * key_block). Lists are per query head. The
// capacities J and N are fixed by the shapes, so that nothing on the host needs to know the counts;
// entries past a count are -1.
struct BlockLists {
  Tensor counts_BHN;                            // i32: blocks that the group reads
  Tensor indices_BHNJ;                          // i32: those blocks, ascending and distinct
  Tensor transposed_counts_BHM;                 // i32: groups that read the block
  Tensor transposed_indices_BHMN;               // i32: those groups, ascending
  std::int64_t query_block = 0, key_block = 0;  // tokens

  bool defined() const { return counts_BHN.defined(); }
};

}  // namespace filigree
