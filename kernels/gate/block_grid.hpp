// How a sequence is cut into query groups and key blocks, and which blocks a group may choose from.
// The one place that knows the rules of causal choice: the gate's ops and the selection ask it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/elementwise/argument_check.hpp"

namespace filigree {

// Group n holds the queries at positions [first_position(n), + query_block), block m the keys at
// [m * key_block, + key_block); the last of each may be short. Groups count from the group of the
// position query_offset, blocks from key 0.
struct BlockGrid {
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
  // Optional i32 [B*Sk]: where the document of the token at this position begins in its sequence.
  // Causal grids only.
  Tensor document_begin_T;

  std::int64_t groups() const {  // N
    return query_length == 0 ? 0
                             : ceil_div(query_offset + query_length, query_block) - first_group();
  }
  std::int64_t key_blocks() const { return ceil_div(key_length, key_block); }  // M
  std::int64_t first_position(std::int64_t n) const { return (first_group() + n) * query_block; }
  std::int64_t end_position(std::int64_t n) const {
    return std::min(first_position(n) + query_block, query_offset + query_length);
  }

 private:
  static std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
  std::int64_t first_group() const { return query_offset == 0 ? 0 : query_offset / query_block; }
};

// Blocks [begin, end).
struct BlockRange {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool contains(std::int64_t m) const { return m >= begin && m < end; }
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

  bool is_forced(std::int64_t m) const {
    return diagonal.contains(m) || local.contains(m) || m == first;
  }
  std::int64_t forced() const { return diagonal.size() + local.size() + (first >= 0); }
};

// Whether another document begins inside group n.
inline bool spans_documents(const BlockGrid& grid, std::int64_t b, std::int64_t n) {
  if (!grid.document_begin_T.defined()) return false;
  const auto* const begins = grid.document_begin_T.data<std::int32_t>() + b * grid.key_length;
  return begins[grid.end_position(n) - 1] > grid.first_position(n);
}

// Called for every row of scores, so it divides no more than it must.
inline GroupBlocks group_blocks(const BlockGrid& grid, std::int64_t b, std::int64_t n) {
  const std::int64_t position = grid.first_position(n);
  GroupBlocks blocks;
  blocks.diagonal = {position / grid.key_block, (grid.end_position(n) - 1) / grid.key_block + 1};
  if (!grid.causal) {
    const std::int64_t M = grid.key_blocks();
    blocks.diagonal = {std::min(M, blocks.diagonal.begin), std::min(M, blocks.diagonal.end)};
    blocks.allowed = blocks.candidates = {0, M};
    return blocks;
  }
  const std::int64_t last = blocks.diagonal.begin;
  blocks.allowed = {0, blocks.diagonal.end};
  blocks.candidates = {0, grid.block_causal ? blocks.diagonal.end : last};
  bool is_mixed = false;
  if (grid.document_begin_T.defined()) {
    const std::int64_t document =
        grid.document_begin_T.data<std::int32_t>()[b * grid.key_length + position];
    blocks.allowed.begin = document / grid.key_block;
    is_mixed = document % grid.key_block != 0;
    if (grid.block_causal && spans_documents(grid, b, n)) blocks.candidates.end = last;
    blocks.candidates.begin = std::min(blocks.candidates.end, blocks.allowed.begin + is_mixed);
  }
  if (blocks.allowed.begin < last && (is_mixed || !grid.block_causal))
    blocks.first = blocks.allowed.begin;
  if (!grid.block_causal)
    blocks.local = {std::min(last, std::max(blocks.allowed.begin + 1, last - grid.local_blocks)),
                    last};
  return blocks;
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
