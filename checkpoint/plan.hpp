// Who writes what: every slice of every tensor once, although replicas hold it several times.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/region.hpp"

namespace filigree {

// What a rank says it holds; the metadata of a PromisedSlice.
struct SliceClaim {
  std::string name;
  DType dtype = DType::f32;
  Shape global_shape;
  Region region;

  std::int64_t bytes() const { return region.numel() * size_of(dtype); }
};

// One claim per slice, in the same order. Throws UserError naming a tensor that cannot be stored:
// without values, a slice outside its global shape, a name that is not a path of plain components
// ("a/b.c").
std::vector<SliceClaim> claims_of(const std::vector<PromisedSlice>& slices);

std::string encode_claims(const std::vector<SliceClaim>& claims);
std::vector<SliceClaim> decode_claims(const std::string& text);

// For each rank, the indices into its claims that it writes, ascending. The choice depends on the
// claims only, so every rank computes the same plan. Of ranks that hold the same slice the one with
// the fewest bytes so far writes it, the lowest on a tie; empty slices are not written. Throws
// UserError when ranks disagree about a tensor's dtype or global shape, or when the slices together
// do not cover it.
std::vector<std::vector<std::size_t>> plan_writes(
    const std::vector<std::vector<SliceClaim>>& claims_by_rank);

}  // namespace filigree
