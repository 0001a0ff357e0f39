#include "checkpoint/region.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/core/random.hpp"

namespace filigree {
namespace {

// Uniform in [0, bound).
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : philox_(seed, RandomPurpose::test, 0) {}
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(philox_.uniform(index_++) * static_cast<double>(bound));
  }
  Region region(const Shape& shape) {
    Region region = whole_region(shape);
    for (int dim = 0; dim < region.rank; ++dim) {
      // Half of the regions start at 0 and a good part reaches the end; some are empty.
      region.begin[dim] = below(2) * below(shape[dim] + 1);
      const std::int64_t rest = shape[dim] - region.begin[dim];
      region.end[dim] = region.begin[dim] + std::min(rest, below(rest + 3));
    }
    return region;
  }

 private:
  Philox philox_;
  std::uint64_t index_ = 0;
};

Shape random_shape(Draw& draw, int rank) {
  std::vector<std::int64_t> sizes;
  for (int dim = 0; dim < rank; ++dim) sizes.push_back(1 + draw.below(4));
  return Shape(std::span<const std::int64_t>(sizes));
}

bool holds(const Region& region, const std::vector<std::int64_t>& at) {
  for (int dim = 0; dim < region.rank; ++dim) {
    const auto d = static_cast<std::size_t>(dim);
    if (at[d] < region.begin[dim] || at[d] >= region.end[dim]) return false;
  }
  return true;
}

// Calls visit(coordinates, row-major index) for every element of `shape`.
template <class Visit>
void for_each_element(const Shape& shape, Visit&& visit) {
  for (std::int64_t index = 0; index < shape.numel(); ++index) {
    std::vector<std::int64_t> at(static_cast<std::size_t>(shape.rank()));
    std::int64_t rest = index;
    for (int dim = shape.rank() - 1; dim >= 0; --dim) {
      at[static_cast<std::size_t>(dim)] = rest % shape[dim];
      rest /= shape[dim];
    }
    visit(at, index);
  }
}

TEST(Region, DifferenceAndIntersectionPartitionARegion) {
  Draw draw(7);
  for (int round = 0; round < 600; ++round) {
    const Shape shape = random_shape(draw, round % 7);
    const Region region = draw.region(shape), hole = draw.region(shape);
    const Region common = intersection(region, hole);
    const std::vector<Region> outside = difference(region, hole);
    for_each_element(shape, [&](const std::vector<std::int64_t>& at, std::int64_t) {
      int covered = holds(common, at) ? 1 : 0;
      for (const Region& piece : outside) covered += holds(piece, at) ? 1 : 0;
      ASSERT_EQ(covered, holds(region, at) ? 1 : 0) << region.name() << " - " << hole.name();
      ASSERT_EQ(holds(common, at), holds(region, at) && holds(hole, at));
    });
  }
}

TEST(Region, CopiesExactlyTheCommonPart) {
  Draw draw(8);
  int copied = 0;
  for (int round = 0; round < 900; ++round) {
    const Shape shape = random_shape(draw, round % 7);
    const Region source_region = draw.region(shape), target_region = draw.region(shape);
    const Region part = intersection(source_region, target_region);
    // The value of an element is its global index, negated where the target holds nothing yet.
    std::vector<std::int32_t> source, target, expected;
    for_each_element(shape, [&](const std::vector<std::int64_t>& at, std::int64_t index) {
      const auto value = static_cast<std::int32_t>(index);
      if (holds(source_region, at)) source.push_back(value);
      if (!holds(target_region, at)) return;
      target.push_back(-1 - value);
      expected.push_back(holds(part, at) ? value : -1 - value);
    });
    copy_part(part, 4, reinterpret_cast<const std::byte*>(source.data()), source_region,
              reinterpret_cast<std::byte*>(target.data()), target_region);
    ASSERT_EQ(target, expected) << source_region.name() << " -> " << target_region.name();
    copied += part.empty() ? 0 : 1;
  }
  EXPECT_GT(copied, 200);
}

TEST(Region, NamesItsBounds) {
  EXPECT_EQ(region_of({2, 3}, {4, 0}).name(), "[4:6, 0:3]");
  EXPECT_EQ(whole_region({}).name(), "[]");
}

TEST(Region, RefusesToCopyWhatABufferDoesNotHold) {
  const Region whole = whole_region({4}), half = region_of({2}, {0});
  std::vector<std::byte> bytes(4);
  EXPECT_THROW(copy_part(whole, 1, bytes.data(), half, bytes.data(), whole), InternalError);
}

}  // namespace
}  // namespace filigree
