#include "checkpoint/region.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace filigree {

std::int64_t Region::numel() const {
  std::int64_t count = 1;
  for (int dim = 0; dim < rank; ++dim) count *= std::max<std::int64_t>(extent(dim), 0);
  return count;
}

Shape Region::shape() const {
  std::array<std::int64_t, Shape::kMaxRank> sizes{};
  for (int dim = 0; dim < rank; ++dim) sizes[dim] = extent(dim);
  return Shape(std::span<const std::int64_t>(sizes.data(), static_cast<std::size_t>(rank)));
}

std::string Region::name() const {
  std::ostringstream out;
  out << '[';
  for (int dim = 0; dim < rank; ++dim) {
    out << (dim > 0 ? ", " : "") << begin[dim] << ':' << end[dim];
  }
  out << ']';
  return std::move(out).str();
}

Region region_of(const Shape& shape, const std::vector<std::int64_t>& offset) {
  FILIGREE_CHECK_EQ(static_cast<std::size_t>(shape.rank()), offset.size(),
                    "dims of the slice and entries of its offset");
  Region region;
  region.rank = shape.rank();
  for (int dim = 0; dim < region.rank; ++dim) {
    region.begin[dim] = offset[static_cast<std::size_t>(dim)];
    region.end[dim] = region.begin[dim] + shape[dim];
  }
  return region;
}

Region whole_region(const Shape& shape) {
  return region_of(shape, std::vector<std::int64_t>(static_cast<std::size_t>(shape.rank()), 0));
}

Region intersection(const Region& left, const Region& right) {
  FILIGREE_CHECK_EQ(left.rank, right.rank, "dims of two regions of one tensor");
  Region common;
  common.rank = left.rank;
  for (int dim = 0; dim < left.rank; ++dim) {
    common.begin[dim] = std::max(left.begin[dim], right.begin[dim]);
    common.end[dim] = std::max(common.begin[dim], std::min(left.end[dim], right.end[dim]));
  }
  return common;
}

bool encloses(const Region& outer, const Region& inner) {
  return inner.empty() || intersection(outer, inner) == inner;
}

std::vector<Region> difference(const Region& region, const Region& hole) {
  const Region common = intersection(region, hole);
  if (common.empty()) return {region};
  // Peel one slab per side and dim; what is left in the end is the common part.
  std::vector<Region> outside;
  Region rest = region;
  for (int dim = 0; dim < region.rank; ++dim) {
    Region before = rest, after = rest;
    before.end[dim] = common.begin[dim];
    after.begin[dim] = common.end[dim];
    if (!before.empty()) outside.push_back(before);
    if (!after.empty()) outside.push_back(after);
    rest.begin[dim] = common.begin[dim];
    rest.end[dim] = common.end[dim];
  }
  return outside;
}

std::vector<Region> difference(const std::vector<Region>& regions, const Region& hole) {
  std::vector<Region> outside;
  for (const Region& region : regions) {
    const std::vector<Region> pieces = difference(region, hole);
    outside.insert(outside.end(), pieces.begin(), pieces.end());
  }
  return outside;
}

namespace {

// Bytes from the start of a buffer that holds `region` to the element at `position`.
std::int64_t byte_offset(const Region& region,
                         const std::array<std::int64_t, Shape::kMaxRank>& position,
                         std::int64_t element_bytes) {
  std::int64_t index = 0;
  for (int dim = 0; dim < region.rank; ++dim) {
    index = index * region.extent(dim) + (position[dim] - region.begin[dim]);
  }
  return index * element_bytes;
}

}  // namespace

void copy_part(const Region& part, std::int64_t element_bytes, const std::byte* source,
               const Region& source_region, std::byte* target, const Region& target_region) {
  FILIGREE_CHECK(encloses(source_region, part) && encloses(target_region, part), "part ",
                 part.name(), " of ", source_region.name(), " and ", target_region.name());
  if (part.empty()) return;
  // Dims [outer, rank) are contiguous in both buffers: one memcpy.
  int outer = part.rank;
  std::int64_t run = element_bytes;
  while (outer > 0) {
    --outer;
    run *= part.extent(outer);
    const bool whole = part.extent(outer) == source_region.extent(outer) &&
                       part.extent(outer) == target_region.extent(outer);
    if (!whole) break;
  }
  auto position = part.begin;
  while (true) {
    std::memcpy(target + byte_offset(target_region, position, element_bytes),
                source + byte_offset(source_region, position, element_bytes),
                static_cast<std::size_t>(run));
    int dim = outer - 1;
    while (dim >= 0 && ++position[dim] == part.end[dim]) {
      position[dim] = part.begin[dim];
      --dim;
    }
    if (dim < 0) return;
  }
}

}  // namespace filigree
