// Which keys a query reads. The one place that knows the pattern of attention: the loops of forward
// and backward ask it and look at no mask, list or document themselves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/attention.hpp"

namespace filigree {

struct Interval {
  std::int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
  std::int64_t count() const { return empty() ? 0 : end - begin; }
};

inline Interval intersect(Interval x, Interval y) {
  return {std::max(x.begin, y.begin), std::min(x.end, y.end)};
}

// Calls visit(value, slot) for the ascending union of a list and two ranges; slot is the place in
// the list, -1 for a value that is only in a range.
template <class Visit>
void for_each_in_union(const std::int32_t* list, std::int64_t count, Interval x, Interval y,
                       const Visit& visit) {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t slot = 0;;) {
    const std::int64_t listed = slot < count ? list[slot] : kNone;
    const std::int64_t value =
        std::min({listed, x.empty() ? kNone : x.begin, y.empty() ? kNone : y.begin});
    if (value == kNone) return;
    visit(value, listed == value ? slot : -1);
    if (listed == value) ++slot;
    if (x.begin == value) ++x.begin;
    if (y.begin == value) ++y.begin;
  }
}

// A run of keys inside one block. slot: its place in the group's list, -1 when it has none; chosen:
// read as a whole, as far as causality and documents allow.
struct KeyBlock {
  Interval keys;
  std::int64_t slot;
  bool chosen;
};

// At most two runs of keys, ascending and apart: sinks, then window.
struct KeyPieces {
  Interval piece[2];
  std::int64_t count() const { return piece[0].count() + piece[1].count(); }
};

// b, h: sequence and query head; query: its row. Groups and blocks as in the lists.
class AllowedKeys {
 public:
  // Keys per block where there are no lists.
  static constexpr std::int64_t kDefaultBlock = 64;

  AllowedKeys(const AttentionShape& shape, const AttentionPattern& pattern)
      : s_(shape), p_(pattern), everything_(pattern.reads_everything()) {
    if (p_.document_begin_T.defined()) {
      document_begin_ = p_.document_begin_T.data<std::int32_t>();
      document_end_ = p_.document_end_T.data<std::int32_t>();
    }
    if (!p_.lists.defined()) return;
    query_block_ = p_.lists.query_block, key_block_ = p_.lists.key_block;
    first_group_ = s_.query_offset / query_block_;
    groups_ = p_.lists.counts_BHN.dim(2), slots_ = p_.lists.indices_BHNJ.dim(3);
    blocks_ = p_.lists.transposed_counts_BHM.dim(2);
  }

  bool has_lists() const { return p_.lists.defined(); }
  bool has_bias() const { return p_.bias_BHNJ.defined(); }
  std::int64_t groups() const { return groups_; }
  std::int64_t key_block() const { return key_block_; }

  // What causality and documents leave.
  Interval reachable(std::int64_t b, std::int64_t query) const {
    const std::int64_t position = query + s_.query_offset;
    Interval keys{0, s_.key_length};
    if (s_.causal) keys.end = std::clamp<std::int64_t>(position + 1, 0, s_.key_length);
    if (document_begin_ == nullptr) return keys;
    const std::int64_t token = b * s_.key_length + position;
    return intersect(keys, {document_begin_[token], document_end_[token]});
  }

  // What the query reads of `keys`, a run inside one block.
  KeyPieces pieces(std::int64_t b, std::int64_t query, Interval keys, bool chosen) const {
    const Interval reach = reachable(b, query), inside = intersect(reach, keys);
    if (chosen || inside.empty()) return {{inside, {}}};
    const Interval sinks = intersect(inside, sinks_of(reach));
    const Interval window = intersect(inside, window_of(query));
    if (sinks.empty()) return {{window, {}}};
    if (window.empty()) return {{sinks, {}}};
    if (window.begin <= sinks.end) return {{{sinks.begin, std::max(sinks.end, window.end)}, {}}};
    return {{sinks, window}};
  }

  // Whether a key may be read by two separate pieces of one run.
  bool may_split() const { return p_.sinks > 0 && p_.window > 0; }

  // The group of a query, as an index into the lists, and the queries of a group.
  std::int64_t group_of(std::int64_t query) const {
    return (query + s_.query_offset) / query_block_ - first_group_;
  }
  Interval queries_of(std::int64_t group) const {
    const std::int64_t begin = (group + first_group_) * query_block_ - s_.query_offset;
    return intersect({begin, begin + query_block_}, {0, s_.query_length});
  }

  // Element of bias and dbias.
  std::int64_t slot_index(std::int64_t b, std::int64_t h, std::int64_t group,
                          std::int64_t slot) const {
    return ((b * s_.query_heads + h) * groups_ + group) * slots_ + slot;
  }

  // Calls visit(KeyBlock) in ascending order for the blocks of which one of `queries`, all of one
  // group, may read a key.
  template <class Visit>
  void for_each_block(std::int64_t b, std::int64_t h, Interval queries, const Visit& visit) const {
    const Interval first = reachable(b, queries.begin), last = reachable(b, queries.end - 1);
    const Interval reach{first.begin, last.end};
    if (reach.empty()) return;
    const auto visit_block = [&](std::int64_t block, std::int64_t slot) {
      const Interval keys{block * key_block_, std::min((block + 1) * key_block_, s_.key_length)};
      if (!intersect(keys, reach).empty()) visit(KeyBlock{keys, slot, slot >= 0 || everything_});
    };
    if (everything_) return for_each_in_union(nullptr, 0, blocks_of(reach), {}, visit_block);
    const Interval window =
        intersect(reach, {window_of(queries.begin).begin, window_of(queries.end - 1).end});
    const Interval sinks = intersect(reach, {first.begin, sinks_of(last).end});
    const List list = has_lists() ? list_of(b, h, group_of(queries.begin)) : List{};
    for_each_in_union(list.data, list.count, p_.window > 0 ? blocks_of(window) : Interval{},
                      p_.sinks > 0 ? blocks_of(sinks) : Interval{}, visit_block);
  }

  // Calls visit(group, chosen) in ascending order for the groups of `groups` of which a query may
  // read a key of the block. Only with lists.
  template <class Visit>
  void for_each_group(std::int64_t b, std::int64_t h, std::int64_t block, Interval groups,
                      const Visit& visit) const {
    const Interval keys{block * key_block_, std::min((block + 1) * key_block_, s_.key_length)};
    const Interval queries{queries_of(groups.begin).begin, queries_of(groups.end - 1).end};
    const std::int64_t row = (b * s_.query_heads + h) * blocks_ + block;
    const std::int32_t* const begin =
        p_.lists.transposed_indices_BHMN.data<std::int32_t>() + row * groups_;
    const std::int32_t* const end =
        begin + p_.lists.transposed_counts_BHM.data<std::int32_t>()[row];
    const std::int32_t* const from = std::lower_bound(begin, end, groups.begin);
    const std::int32_t* const to = std::lower_bound(from, end, groups.end);
    for_each_in_union(from, to - from, groups_of(intersect(queries, queries_near(keys))),
                      groups_of(intersect(queries, queries_of_sinks(b, keys, queries))),
                      [&](std::int64_t group, std::int64_t slot) { visit(group, slot >= 0); });
  }

  // Exact number of pairs that `queries`, all of one group, read.
  std::int64_t count_pairs(std::int64_t b, std::int64_t h, Interval queries) const {
    const Interval common{reachable(b, queries.end - 1).begin, reachable(b, queries.begin).end};
    std::int64_t pairs = 0;
    const auto count_block = [&](const KeyBlock& block) {
      for (std::int64_t i = queries.begin; i < queries.end; ++i)
        pairs += pieces(b, i, block.keys, block.chosen).count();
    };
    if (everything_ || p_.window > 0 || p_.sinks > 0) {
      for_each_block(b, h, queries, count_block);
      return pairs;
    }
    // Blocks that all of the queries read whole are found by bisection: counting must cost little
    // beside the work that it counts.
    const List list = list_of(b, h, group_of(queries.begin));
    const std::int32_t* const end = list.data + list.count;
    const std::int32_t* const whole =
        std::lower_bound(list.data, end, (common.begin + key_block_ - 1) / key_block_);
    const std::int32_t* const partial = std::lower_bound(whole, end, common.end / key_block_);
    pairs += (partial - whole) * key_block_ * queries.count();
    for (const std::int32_t* m = list.data; m < end; ++m) {
      if (m == whole) m = partial;
      if (m < end)
        count_block({{*m * key_block_, std::min((*m + 1) * key_block_, s_.key_length)}, 0, true});
    }
    return pairs;
  }

 private:
  struct List {
    const std::int32_t* data = nullptr;
    std::int64_t count = 0;
  };

  List list_of(std::int64_t b, std::int64_t h, std::int64_t group) const {
    const std::int64_t row = (b * s_.query_heads + h) * groups_ + group;
    return {p_.lists.indices_BHNJ.data<std::int32_t>() + row * slots_,
            p_.lists.counts_BHN.data<std::int32_t>()[row]};
  }
  Interval window_of(std::int64_t query) const {
    const std::int64_t position = query + s_.query_offset;
    return {position - p_.window + 1, position + p_.window};
  }
  Interval sinks_of(Interval reach) const { return {reach.begin, reach.begin + p_.sinks}; }
  Interval blocks_of(Interval keys) const {
    if (keys.empty()) return {};
    return {keys.begin / key_block_, (keys.end - 1) / key_block_ + 1};
  }
  Interval groups_of(Interval queries) const {
    if (queries.empty()) return {};
    return {group_of(queries.begin), group_of(queries.end - 1) + 1};
  }
  // Queries whose window reaches one of the keys.
  Interval queries_near(Interval keys) const {
    if (p_.window == 0) return {};
    return {(s_.causal ? keys.begin : keys.begin - p_.window + 1) - s_.query_offset,
            keys.end + p_.window - 1 - s_.query_offset};
  }
  // Queries of `among` whose document has one of the keys among its sinks.
  Interval queries_of_sinks(std::int64_t b, Interval keys, Interval among) const {
    if (p_.sinks == 0) return {};
    if (document_begin_ == nullptr) {
      if (keys.begin >= p_.sinks) return {};
      return {s_.causal ? keys.begin - s_.query_offset : among.begin, among.end};
    }
    const std::int32_t* const begins = document_begin_ + b * s_.key_length + s_.query_offset;
    const std::int32_t* const from = begins + among.begin;
    const std::int32_t* const to = begins + among.end;
    return {std::upper_bound(from, to, keys.begin - p_.sinks) - begins,
            std::lower_bound(from, to, keys.end) - begins};
  }

  const AttentionShape& s_;
  const AttentionPattern& p_;
  bool everything_;
  const std::int32_t* document_begin_ = nullptr;
  const std::int32_t* document_end_ = nullptr;
  std::int64_t query_block_ = 0, key_block_ = kDefaultBlock;
  std::int64_t first_group_ = 0, groups_ = 0, slots_ = 0, blocks_ = 0;
};

}  // namespace filigree
