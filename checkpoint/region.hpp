// Boxes inside a global tensor: what a slice covers, what of it is wanted, what is still missing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/tensor.hpp"

namespace filigree {

// Elements [begin[d], end[d]) of every dim d < rank. A region of rank 0 is a scalar: one element.
struct Region {
  std::array<std::int64_t, Shape::kMaxRank> begin{}, end{};
  int rank = 0;

  std::int64_t extent(int dim) const { return end[dim] - begin[dim]; }
  std::int64_t numel() const;
  bool empty() const { return numel() == 0; }
  Shape shape() const;
  std::vector<std::int64_t> offset() const { return {begin.begin(), begin.begin() + rank}; }
  std::string name() const;  // "[0:4, 128:256]"; "[]" for a scalar
  bool operator==(const Region&) const = default;
};

// The region of `shape` elements at `offset`, which must have one entry per dim.
Region region_of(const Shape& shape, const std::vector<std::int64_t>& offset);
Region whole_region(const Shape& shape);

// Of two regions of the same tensor. An intersection without elements is empty().
Region intersection(const Region& left, const Region& right);
bool encloses(const Region& outer, const Region& inner);

// What of `region` lies outside `hole`, as disjoint regions.
std::vector<Region> difference(const Region& region, const Region& hole);
// The same for a set of disjoint regions.
std::vector<Region> difference(const std::vector<Region>& regions, const Region& hole);

// Copies the elements of `part`, which lies inside both, from a row-major buffer that holds exactly
// `source_region` to one that holds exactly `target_region`.
void copy_part(const Region& part, std::int64_t element_bytes, const std::byte* source,
               const Region& source_region, std::byte* target, const Region& target_region);

}  // namespace filigree
