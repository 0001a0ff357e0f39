// What the attention kernels for compute capability 9.0 share: a warp brings tiles by TMA as the
// lists name them, in pieces of 8 to 64 rows, and warpgroups of 64 rows each multiply by wgmma.
#pragma once

#include "kernels/attention/attention_cuda.hpp"
#include "kernels/cuda/tensor_map.hpp"
#include "kernels/cuda/tile/swizzled_tile.hpp"

namespace filigree {

constexpr int kGroupRows = 64;  // of one warpgroup
constexpr int kSmallestPiece = 8, kLargestPiece = 64;
// Of rows that share a list: with fewer, most rows of a warpgroup would idle.
constexpr std::int64_t kFewestRows = kGroupRows / 2;

// A piece of a unit of this many rows has 1 << piece_bits(unit): as many as divide the unit, or the
// fewest that a box may have.
inline int piece_bits(int unit) {
  static_assert(kSmallestPiece == 1 << 3 && kLargestPiece == 1 << 6);
  int bits = 6;
  while (bits > 3 && unit % (1 << bits) != 0) --bits;
  return bits;
}

// What the rows of a tile of keys are: piece i holds keys begin[i] and on. Pieces that there are
// not lie past the last key.
template <int kPieces>
struct KeyTile {
  int pieces;     // 0: no more tiles
  int last;       // key of the last piece
  bool is_whole;  // all pieces there, and chosen
  int begin[kPieces], slot[kPieces];
  float bias[kPieces];
};

// The tile of rows that a block owns.
struct OwnTile {
  int b, head;
  Range rows;
};

// Writes down the next tile of the walk. Returns this lane's piece; all lanes take part.
template <int kPieces>
__device__ Piece describe_pieces(const DevicePattern& p, int piece_bits, Walk& walk,
                                 std::int64_t list, KeyTile<kPieces>& tile, int columns) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, wanted = columns >> piece_bits;
  Piece piece{p.key_length, kPart}, next{0, kPart};
  bool all_chosen = true;
  int filled = 0;
  while (filled < wanted && walk.next_piece((1 << piece_bits), next)) {
    if (filled++ == lane) piece = next;
    all_chosen = all_chosen && next.slot != kPart;
  }
  if (lane < wanted) {
    tile.begin[lane] = piece.begin;
    tile.slot[lane] = piece.slot;
    tile.bias[lane] =
        p.bias != nullptr && piece.slot >= 0 ? p.bias[list * p.slots + piece.slot] : 0.0f;
  }
  if (lane == 0) {
    tile.pieces = filled;
    tile.last = next.begin + (1 << piece_bits) - 1;
    tile.is_whole = filled == wanted && all_chosen;
  }
  return piece;
}

// Starts the copies of the rows that a block owns, by one thread.
template <int kRows, int kWidth>
__device__ void start_own_rows(const CUtensorMap& map, tile::SwizzledTile<kRows, kWidth>& rows,
                               tile::Barrier& full, const OwnTile& own) {
  for (int row = 0; row < kRows; row += kGroupRows)
    for (int panel = 0; panel < kWidth / tile::kPanel; ++panel)
      tile::copy_box(rows.box(row, panel), map, full,
                     {panel * tile::kPanel, own.head, own.rows.begin + row, own.b});
}

// Starts the copies of a tile that is filled with pieces, by one warp: each lane that of its piece.
template <int kColumns, int kWidth>
__device__ void start_pieces(const CUtensorMap& map, int piece_bits,
                             tile::SwizzledTile<kColumns, kWidth>& tile, tile::Barrier& full,
                             int piece_begin, int head, int b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane >= kColumns >> piece_bits) return;
  for (int panel = 0; panel < kWidth / tile::kPanel; ++panel)
    tile::copy_box(tile.box(lane << piece_bits, panel), map, full,
                   {panel * tile::kPanel, head, piece_begin, b});
}

// Lets a warp's copies of so many bytes begin to count on a barrier.
__device__ inline void announce(tile::Barrier& full, int bytes) {
  if (threadIdx.x % kWarp == 0) tile::arrive_and_expect(full, bytes);
  __syncwarp();
}

// Turns products into logits, in units of the exponential; -infinity where a query does not read.
// `common` are the keys that all rows read if they are chosen.
template <int kTiles, int kPieces>
__device__ __forceinline__ void mask(const DevicePattern& p, int piece_bits,
                                     const KeyTile<kPieces>& tile, const LaneQueries& rows,
                                     Range common, float (&s)[kTiles][4]) {
  constexpr float kUnit = tile::Exponential<DeviceBFloat16>::kUnit;
  const bool is_masked = !tile.is_whole || tile.begin[0] < common.begin || tile.last >= common.end;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const int piece = 8 * j >> piece_bits;  // the same for eight columns
    const float bias = p.bias != nullptr ? tile.bias[piece] * kUnit : 0.0f;
#pragma unroll
    for (int n = 0; n < 4; ++n) s[j][n] = s[j][n] * (p.scale * kUnit) + bias;
    if (!is_masked) continue;
    const int key = tile.begin[piece] + (8 * j & ((1 << piece_bits) - 1)) +
                    static_cast<int>(threadIdx.x) % 4 * 2;
    const bool chosen = tile.slot[piece] != kPart;
#pragma unroll
    for (int n = 0; n < 4; ++n)
      if (!reads(p, rows.reach[n / 2], key + n % 2, chosen)) s[j][n] = -INFINITY;
  }
}

// The queries of a warpgroup's 64 rows, of the tile that a block owns.
__device__ inline Range queries_of_group(const OwnTile& own, int group) {
  const int first = own.rows.begin + kGroupRows * group;
  return overlap(own.rows, {first, first + kGroupRows});
}

// The shuffle tells the compiler that lanes agree: addresses of operands then take no registers.
__device__ inline int warpgroup_of_thread() {
  return __shfl_sync(kWholeWarp, static_cast<int>(threadIdx.x) / tile::kWarpgroup, 0);
}

// Registers of a thread of the producer, and of each of the warpgroups that consume: 504 in all,
// or 256 where two blocks share a multiprocessor.
constexpr int kProducerRegisters = 40;
template <int kBlocks>
constexpr int kConsumerRegisters = kBlocks == 2 ? 216 : 232;

// Why the kernels for compute capability 9.0 cannot take such a problem. `tensors` are those that
// boxes are copied from.
std::optional<std::string> reject_hopper(const AttentionShape& shape,
                                         const AttentionPattern& pattern,
                                         std::initializer_list<Tensor> tensors,
                                         const ExecutionContext& context);

// device_pattern, with runs of two warpgroups where no lists cut them.
inline DevicePattern hopper_pattern(const AttentionShape& shape, const AttentionPattern& pattern) {
  DevicePattern p = device_pattern(shape, pattern);
  if (p.counts == nullptr) p.query_block = p.key_block = 2 * kGroupRows;
  return p;
}

// Calls body(width constant, warpgroups constant) for heads of K and units of so many rows.
template <class Body>
void visit_warpgroups(std::int64_t head_dim, std::int64_t rows, const Body& body) {
  const auto of_width = [&](auto width) {
    if (rows > kGroupRows) return body(width, std::integral_constant<int, 2>{});
    return body(width, std::integral_constant<int, 1>{});
  };
  if (head_dim <= 64) return of_width(std::integral_constant<int, 64>{});
  return of_width(std::integral_constant<int, 128>{});
}

}  // namespace filigree
