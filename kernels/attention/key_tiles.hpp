// Which keys a run of queries visits. The one place that knows the pattern of attention: the tile
// loops of forward and backward ask it and do not look at `causal` or `query_offset` themselves.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.hpp"

namespace filigree {

// Keys [begin, begin + count) of a sequence. full: every query of the run may see all of them.
struct KeyTile {
  std::int64_t begin = 0, count = 0;
  bool full = true;
};

// Query i may see the keys [0, visible_keys(shape, i)).
inline std::int64_t visible_keys(const AttentionShape& shape, std::int64_t query) {
  if (!shape.causal) return shape.key_length;
  return std::clamp<std::int64_t>(query + shape.query_offset + 1, 0, shape.key_length);
}

// Calls visit(KeyTile) for the tiles of at most `tile_keys` keys that the queries [query_begin,
// query_end) visit, in ascending order. Tiles that none of them may see are skipped.
template <class Visit>
void for_each_key_tile(const AttentionShape& shape, std::int64_t query_begin,
                       std::int64_t query_end, std::int64_t tile_keys, const Visit& visit) {
  const std::int64_t seen_by_first = visible_keys(shape, query_begin);
  const std::int64_t seen_by_last = visible_keys(shape, query_end - 1);
  for (std::int64_t begin = 0; begin < seen_by_last; begin += tile_keys) {
    const std::int64_t count = std::min(tile_keys, seen_by_last - begin);
    visit(KeyTile{begin, count, begin + count <= seen_by_first});
  }
}

}  // namespace filigree
