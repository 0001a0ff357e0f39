// AllowedKeys (allowed_keys.hpp) for device code: which keys a query reads, and the keys, or
// queries, that a tile has to visit, a tile of columns at a time.
#pragma once

#include "kernels/attention/attention.hpp"
#include "kernels/cuda/device.hpp"

namespace filigree {

// Columns that no list names: read as a whole, or as far as window and sinks reach.
constexpr int kWhole = -2, kPart = -1;

struct DevicePattern {
  int query_length, key_length, query_heads, kv_heads, query_offset;
  int window, sinks;
  bool causal, reads_everything;
  float scale;
  const std::int32_t *counts, *indices;  // null: no lists
  const std::int32_t *transposed_counts, *transposed_indices;
  const float* bias;
  const std::int32_t *document_begin, *document_end;
  int query_block, key_block, groups, slots, blocks;
  int origin;  // position of query 0 inside its group

  __device__ std::int64_t list(int b, int h, int group) const {
    return (static_cast<std::int64_t>(b) * query_heads + h) * groups + group;
  }
  __device__ std::int64_t column(int b, int h, int block) const {
    return (static_cast<std::int64_t>(b) * query_heads + h) * blocks + block;
  }
  // Of lse and delta.
  __device__ std::int64_t row(int b, int h, int query) const {
    return (static_cast<std::int64_t>(b) * query_heads + h) * query_length + query;
  }
  __device__ int group_of(int query) const { return (query + origin) / query_block; }
};

DevicePattern device_pattern(const AttentionShape& shape, const AttentionPattern& pattern);

__device__ __forceinline__ int larger(int x, int y) { return x < y ? y : x; }
__device__ __forceinline__ int smaller(int x, int y) { return x < y ? x : y; }

// A query and the keys that causality and its document leave.
struct QueryReach {
  int position, begin, end;
};

__device__ __forceinline__ QueryReach reach_of(const DevicePattern& p, int b, int query) {
  QueryReach reach{query + p.query_offset, 0, p.key_length};
  if (p.causal) reach.end = larger(0, smaller(reach.position + 1, p.key_length));
  if (p.document_begin == nullptr) return reach;
  const std::int64_t token = static_cast<std::int64_t>(b) * p.key_length + reach.position;
  reach.begin = p.document_begin[token];
  reach.end = smaller(reach.end, p.document_end[token]);
  return reach;
}

__device__ __forceinline__ bool reads(const DevicePattern& p, const QueryReach& query, int key,
                                      bool chosen) {
  if (key < query.begin || key >= query.end) return false;
  const int distance = query.position - key;
  return chosen || key - query.begin < p.sinks || (distance < p.window && -distance < p.window);
}

struct Range {
  int begin, end;
  __device__ bool empty() const { return begin >= end; }
};

__device__ __forceinline__ Range overlap(Range x, Range y) {
  return {larger(x.begin, y.begin), smaller(x.end, y.end)};
}

// The two query rows whose sums a lane holds, of 16 from row0 of a tile on; -1 past its end.
struct LaneQueries {
  int query[2];
  QueryReach reach[2];

  __device__ LaneQueries(const DevicePattern& p, int b, Range queries, int row0) {
    for (int i = 0; i < 2; ++i) {
      const int row = queries.begin + row0 + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
      query[i] = row < queries.end ? row : -1;
      reach[i] = query[i] >= 0 ? reach_of(p, b, query[i]) : QueryReach{0, 0, 0};
    }
  }
};

// The keys that each of `queries`, not empty, reads if their blocks are chosen.
__device__ __forceinline__ Range read_by_all(const DevicePattern& p, int b, Range queries) {
  return {reach_of(p, b, queries.end - 1).begin, reach_of(p, b, queries.begin).end};
}

// What one tile of columns holds. `item` and `slot` are those of the caller's column, -1 and kPart
// where there is none; the rest is the same for every thread.
struct ColumnTile {
  int filled, first, last;
  bool all_chosen;
  int item, slot;
};

// Neighbouring keys, or queries, that are copied together, all of one slot.
struct Piece {
  int begin, slot;
};

// Walks the ascending union of a list and two ranges of units (blocks of keys, or groups of
// queries), cut to `bounds`, and deals its items out in tiles. All threads walk alike.
struct Walk {
  const std::int32_t* list;
  int count;
  Range x, y;
  int unit, origin;  // unit v: items [v * unit - origin, (v + 1) * unit - origin)
  Range bounds;
  int unlisted;  // the slot of columns outside the list
  int slot, run_slot;
  Range run;

  __device__ bool advance() {
    constexpr int kNone = 0x7fffffff;
    for (;;) {
      const int listed = slot < count ? list[slot] : kNone;
      const int value =
          smaller(listed, smaller(x.empty() ? kNone : x.begin, y.empty() ? kNone : y.begin));
      if (value == kNone) return false;
      run_slot = listed == value ? slot : unlisted;
      slot += listed == value;
      x.begin += !x.empty() && x.begin == value;
      y.begin += !y.empty() && y.begin == value;
      run = overlap({value * unit - origin, (value + 1) * unit - origin}, bounds);
      if (!run.empty()) return true;
    }
  }

  template <int kColumns>
  __device__ ColumnTile take(int column) {
    ColumnTile tile{0, 0, -1, true, -1, kPart};
    while (tile.filled < kColumns && (!run.empty() || advance())) {
      const int count_taken = smaller(run.end - run.begin, kColumns - tile.filled);
      const int within = column - tile.filled;
      if (within >= 0 && within < count_taken) tile.item = run.begin + within, tile.slot = run_slot;
      if (tile.filled == 0) tile.first = run.begin;
      tile.filled += count_taken;
      run.begin += count_taken;
      tile.last = run.begin - 1;
      tile.all_chosen = tile.all_chosen && run_slot != kPart;
    }
    return tile;
  }

  // The items in pieces of `rows`, counted from the begin of their unit; a piece may reach past the
  // bounds on both sides, and the last one past the unit where `rows` does not divide it.
  __device__ bool next_piece(int rows, Piece& piece) {
    if (run.empty() && !advance()) return false;
    const int unit_begin = (run.begin + origin) / unit * unit - origin;
    piece = {unit_begin + (run.begin - unit_begin) / rows * rows, run_slot};
    run.begin = piece.begin + rows;
    return true;
  }

  __device__ Range units_of(Range items) const {
    items = overlap(items, bounds);
    if (items.empty()) return {0, 0};
    return {(items.begin + origin) / unit, (items.end - 1 + origin) / unit + 1};
  }
};

__device__ __forceinline__ Walk no_walk(int unit, int origin, Range bounds) {
  return {nullptr, 0, {0, 0}, {0, 0}, unit, origin, bounds, kPart, 0, kPart, {0, 0}};
}

// The keys that `queries`, all of one group and not empty, may read.
__device__ inline Walk keys_of(const DevicePattern& p, int b, int h, Range queries) {
  const QueryReach first = reach_of(p, b, queries.begin), last = reach_of(p, b, queries.end - 1);
  Walk walk = no_walk(p.key_block, 0, {first.begin, last.end});
  if (p.reads_everything) {
    walk.x = walk.units_of(walk.bounds);
    walk.unlisted = kWhole;
    return walk;
  }
  if (p.counts != nullptr) {
    const std::int64_t list = p.list(b, h, p.group_of(queries.begin));
    walk.list = p.indices + list * p.slots, walk.count = p.counts[list];
  }
  if (p.window > 0)
    walk.x = walk.units_of({first.position - p.window + 1, last.position + p.window});
  if (p.sinks > 0) walk.y = walk.units_of({first.begin, last.begin + p.sinks});
  return walk;
}

// The queries of head h that may read one of `keys`, all of one block and not empty.
__device__ inline Walk queries_of(const DevicePattern& p, int b, int h, Range keys) {
  const std::int64_t sequence = static_cast<std::int64_t>(b) * p.key_length;
  Range positions{p.causal ? keys.begin : -0x40000000, 0x40000000};
  Range document{0, 0x40000000};  // of the first key
  if (p.document_begin != nullptr) {
    document = {p.document_begin[sequence + keys.begin], p.document_end[sequence + keys.begin]};
    positions = overlap(positions, {document.begin, p.document_end[sequence + keys.end - 1]});
  }
  const int offset = p.query_offset;
  Walk walk =
      no_walk(p.query_block, p.origin,
              overlap({positions.begin - offset, positions.end - offset}, {0, p.query_length}));
  if (p.reads_everything) {
    walk.x = walk.units_of(walk.bounds);
    walk.unlisted = kWhole;
    return walk;
  }
  if (p.counts != nullptr) {
    const std::int64_t column = p.column(b, h, keys.begin / p.key_block);
    walk.list = p.transposed_indices + column * p.groups;
    walk.count = p.transposed_counts[column];
  }
  if (p.window > 0)
    walk.x = walk.units_of({keys.begin - p.window + 1 - offset, keys.end - 1 + p.window - offset});
  // The first document of the keys has a sink among them, or every later one begins there.
  if (p.sinks > 0) {
    const bool first_reaches = keys.begin - document.begin < p.sinks;
    walk.y =
        walk.units_of({first_reaches ? walk.bounds.begin : document.end - offset, walk.bounds.end});
  }
  return walk;
}

// The place of `block` in the list of a group that has it.
__device__ inline int slot_of(const DevicePattern& p, std::int64_t list, int block) {
  const std::int32_t* const indices = p.indices + list * p.slots;
  int begin = 0, end = p.counts[list] - 1;
  while (begin < end) {
    const int middle = (begin + end) / 2;
    if (indices[middle] < block)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

// The queries, or keys, that are the rows of the n-th tile: tiles of kRows inside units.
__device__ inline Range rows_of_tile(int tile, int rows, int unit, int origin, int length) {
  const int per_unit = (unit + rows - 1) / rows;
  const int begin = tile / per_unit * unit - origin, at = begin + tile % per_unit * rows;
  return overlap({at, smaller(at + rows, begin + unit)}, {0, length});
}

}  // namespace filigree
