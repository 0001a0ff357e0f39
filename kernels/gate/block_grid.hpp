// How a sequence is cut into query groups and key blocks, and which blocks a group may choose from.
// The one place that knows the rules of causal choice: the gate's ops and the selection ask it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/elementwise/argument_check.hpp"
#include "runtime/core/host_device.hpp"

namespace filigree {

// Group n holds the queries at positions [first_position(n), + query_block), block m the keys at
// [m * key_block, + key_block); the last of each may be short. Groups count from the group of the
// position query_offset, blocks from key 0.
struct GridSizes {
  std::int64_t batch = 0, heads = 0;
  std::int64_t query_length = 0, key_length = 0;  // tokens of a sequence: Sq, Sk
  std::int64_t query_block = 0, key_block = 0;    // tokens
  std::int64_t query_offset = 0;                  // position of the first query among the keys
  bool causal = true;
  // Causal grids of equal groups and blocks only: a choice may see its whole group (GroupBlocks).
  bool block_causal = false;
  // Finished blocks before the diagonal that every group reads (GroupBlocks). Causal grids whose
  // choice sees no more than a group's first token.
  std::int64_t local_blocks = 1;

  FILIGREE_HOST_DEVICE std::int64_t groups() const {  // N
    return query_length == 0 ? 0
                             : ceil_div(query_offset + query_length, query_block) - first_group();
  }
  FILIGREE_HOST_DEVICE std::int64_t key_blocks() const {  // M
    return ceil_div(key_length, key_block);
  }
  FILIGREE_HOST_DEVICE std::int64_t first_group() const {  // that of the whole sequence
    return query_offset == 0 ? 0 : query_offset / query_block;
  }
  FILIGREE_HOST_DEVICE std::int64_t first_position(std::int64_t n) const {
    return (first_group() + n) * query_block;
  }
  FILIGREE_HOST_DEVICE std::int64_t end_position(std::int64_t n) const {
    return smaller(first_position(n) + query_block, query_offset + query_length);
  }
  // Of the group's queries that are there: where a part of a sequence begins, a group may too.
  FILIGREE_HOST_DEVICE std::int64_t first_query(std::int64_t n) const {
    return larger(query_offset, first_position(n));
  }

  // std::min and std::max are not for device code.
  FILIGREE_HOST_DEVICE static std::int64_t smaller(std::int64_t a, std::int64_t b) {
    return b < a ? b : a;
  }
  FILIGREE_HOST_DEVICE static std::int64_t larger(std::int64_t a, std::int64_t b) {
    return a < b ? b : a;
  }

 private:
  FILIGREE_HOST_DEVICE static std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
  }
};

// A grid as kernels take it; the pointer is to memory of the side that reads it.
struct GridView : GridSizes {
  const std::int32_t* document_begin = nullptr;  // [B*Sk] or null
};

struct BlockGrid : GridSizes {
  // Optional i32 [B*Sk]: where the document of the token at this position begins in its sequence.
  // Causal grids only.
  Tensor document_begin_T;

  GridView view() const {
    return {*this, document_begin_T.defined() ? document_begin_T.data<std::int32_t>() : nullptr};
  }
};

// Blocks [begin, end).
struct BlockRange {
  std::int64_t begin = 0, end = 0;
  FILIGREE_HOST_DEVICE std::int64_t size() const { return end - begin; }
  FILIGREE_HOST_DEVICE bool contains(std::int64_t m) const { return m >= begin && m < end; }
};

// What group n may and must read.
//
// Causal: candidates are the blocks that are finished before the block of the group's first token,
// so that neither their pooled keys nor the choice see a token after that one; the blocks from
// there to the group's last token, the diagonal, are always read. So are the local_blocks blocks
// before the diagonal and the first block of the document. Where a document begins inside a block,
// that block's pooled key mixes two documents: it is the first block, hence read, but no candidate.
// Block-causal: the diagonal block is a candidate too, since the choice may see all of the group's
// tokens; it is always read, and no other block is. A block in which a document begins is again no
// candidate; where the group's document begins in it, it is read as the first block.
// Not causal: every block is a candidate and only the diagonal is always read.
struct GroupBlocks {
  BlockRange allowed;       // what a dense head lists
  BlockRange candidates;    // blocks that have a score
  BlockRange diagonal;      // blocks that overlap the group
  BlockRange local;         // forced blocks before the diagonal
  std::int64_t first = -1;  // forced outside both; -1: none

  FILIGREE_HOST_DEVICE bool is_forced(std::int64_t m) const {
    return diagonal.contains(m) || local.contains(m) || m == first;
  }
  FILIGREE_HOST_DEVICE std::int64_t forced() const {
    return diagonal.size() + local.size() + (first >= 0);
  }
};

// Whether another document begins inside group n.
FILIGREE_HOST_DEVICE inline bool spans_documents(const GridView& grid, std::int64_t b,
                                                 std::int64_t n) {
  if (grid.document_begin == nullptr) return false;
  const std::int32_t* const begins = grid.document_begin + b * grid.key_length;
  return begins[grid.end_position(n) - 1] > grid.first_position(n);
}
inline bool spans_documents(const BlockGrid& grid, std::int64_t b, std::int64_t n) {
  return spans_documents(grid.view(), b, n);
}

// Called for every row of scores, so it divides no more than it must.
FILIGREE_HOST_DEVICE inline GroupBlocks group_blocks(const GridView& grid, std::int64_t b,
                                                     std::int64_t n) {
  const std::int64_t position = grid.first_position(n);
  GroupBlocks blocks;
  blocks.diagonal = {position / grid.key_block, (grid.end_position(n) - 1) / grid.key_block + 1};
  if (!grid.causal) {
    const std::int64_t M = grid.key_blocks();
    blocks.diagonal = {GridSizes::smaller(M, blocks.diagonal.begin),
                       GridSizes::smaller(M, blocks.diagonal.end)};
    blocks.allowed = blocks.candidates = {0, M};
    return blocks;
  }
  const std::int64_t last = blocks.diagonal.begin;
  blocks.allowed = {0, blocks.diagonal.end};
  blocks.candidates = {0, grid.block_causal ? blocks.diagonal.end : last};
  bool is_mixed = false;
  if (grid.document_begin != nullptr) {
    const std::int64_t document = grid.document_begin[b * grid.key_length + position];
    blocks.allowed.begin = document / grid.key_block;
    is_mixed = document % grid.key_block != 0;
    if (grid.block_causal && spans_documents(grid, b, n)) blocks.candidates.end = last;
    blocks.candidates.begin =
        GridSizes::smaller(blocks.candidates.end, blocks.allowed.begin + is_mixed);
  }
  if (blocks.allowed.begin < last && (is_mixed || !grid.block_causal))
    blocks.first = blocks.allowed.begin;
  if (!grid.block_causal)
    blocks.local = {GridSizes::smaller(last, GridSizes::larger(blocks.allowed.begin + 1,
                                                               last - grid.local_blocks)),
                    last};
  return blocks;
}
inline GroupBlocks group_blocks(const BlockGrid& grid, std::int64_t b, std::int64_t n) {
  return group_blocks(grid.view(), b, n);
}

inline BlockGrid without_documents(BlockGrid grid) {
  grid.document_begin_T = Tensor();
  return grid;
}

// The grid as far as the host knows it: documents in an accelerator's memory are left out, since
// nothing may wait for them. What is counted on it is an upper bound there.
inline BlockGrid known_to_host(BlockGrid grid) {
  const Tensor& documents = grid.document_begin_T;
  const bool is_elsewhere = documents.defined() && documents.device().kind != DeviceKind::cpu;
  return is_elsewhere ? without_documents(std::move(grid)) : grid;
}

// Keys [begin, end) that the query at `position` of sequence b may see.
FILIGREE_HOST_DEVICE inline BlockRange visible_key_range(const GridView& grid, std::int64_t b,
                                                         std::int64_t position) {
  if (!grid.causal) return {0, grid.key_length};
  if (grid.document_begin == nullptr) return {0, position + 1};
  return {grid.document_begin[b * grid.key_length + position], position + 1};
}
inline BlockRange visible_key_range(const BlockGrid& grid, std::int64_t b, std::int64_t position) {
  return visible_key_range(grid.view(), b, position);
}

inline void check_grid(ArgumentCheck& check, const BlockGrid& grid) {
  check.require(grid.batch >= 0 && grid.heads >= 0 && grid.query_length >= 0, "negative sizes")
      .require(grid.local_blocks >= 0, "local_blocks ", grid.local_blocks)
      .require(grid.query_block > 0 && grid.key_block > 0, "query_block ", grid.query_block,
               ", key_block ", grid.key_block, "; both are positive")
      .require(!grid.causal || grid.query_offset + grid.query_length <= grid.key_length,
               "queries up to position ", grid.query_offset + grid.query_length, " among ",
               grid.key_length, " keys")
      .require(!grid.block_causal || (grid.causal && grid.query_block == grid.key_block &&
                                      grid.query_offset % grid.query_block == 0),
               "block-causal with groups of ", grid.query_block, " from position ",
               grid.query_offset, " and blocks of ", grid.key_block,
               "; both are of one size and start together");
  if (!grid.document_begin_T.defined()) return;
  check.require(grid.causal, "documents in a grid that is not causal")
      .dtype("document_begin", grid.document_begin_T, DType::i32)
      .numel("document_begin", grid.document_begin_T, grid.batch * grid.key_length);
}

}  // namespace filigree
