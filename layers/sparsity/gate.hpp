// The gate of the adaptive mechanism: scores of key blocks for groups of queries, from what the
// projections gave before position embedding (after Gao et al. 2024, "SeerAttention",
// arXiv 2410.13276, with a choice that is strictly causal).
//
//   z[n,m] = <rope(W_q q[first token of group n]), rope(W_k [max; min; mean of k over block m])>
//            / sqrt(E)
//
// per query head, rotated by the blocks' numbers: the one that holds that token, and m. Counted in
// tokens, angles would turn by key_block times as much, and only the lowest frequencies would still
// find a content that lies some blocks back. Only blocks that are finished before that token have a
// score.
#pragma once

#include "layers/functional/gate.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

// A weight [rows, columns] of a gate, split over tensor ranks by rows as heads are; named
// `name`.weight. Returns its place in the store.
std::size_t add_gate_projection(const std::string& name, std::int64_t rows, std::int64_t columns,
                                double deviation, const MechanismContext& context);

// first, first + step, first + 2 step, ... for each of `batch` sequences, divided by `unit` and
// rounded down: i32 [batch * count].
Tensor block_positions(std::int64_t batch, std::int64_t count, std::int64_t step,
                       std::int64_t first = 0, std::int64_t unit = 1);

// The gate's side of the cache: features of finished blocks, and what the unfinished block and the
// current group will need.
struct GateState final : MechanismState {
  Tensor keys_MHE;          // [blocks of the capacity, H*E]; rows of unfinished blocks are zero
  Tensor pending_TGK;       // [key_block, G*K]: raw keys of the unfinished block
  Tensor group_query_HK;    // [1, H*K]: raw query of the first token of the last token's group
  Tensor means_MGK;         // with a head gate: means of finished blocks, as keys_MHE
  std::int64_t length = 0;  // tokens seen

  // The means of the grid's blocks, placed as `like`.
  Variable finished(const BlockGrid& grid, const Variable& like) const {
    return Variable(means_MGK.rows(0, grid.key_blocks()), like.placements());
  }
};

class BlockGate {
 public:
  explicit BlockGate(const MechanismContext& context);

  // Scores of whole sequences [B,H,N,M], from the groups' first queries and the blocks' pooled
  // keys.
  Variable scores(Tape& tape, const Variable& queries_NHK, const Variable& pools_MGP,
                  const BlockGrid& grid) const;

  // Decoding: takes in `input`'s new tokens, which follow state.length others, and returns the
  // first queries of the groups that they belong to [N, H*K]; then the scores of those groups.
  Variable append(Tape& tape, const AttentionInput& input, const BlockGrid& grid,
                  GateState& state) const;
  Variable scores_of(Tape& tape, const Variable& queries_NHK, const BlockGrid& grid,
                     const GateState& state) const;
  std::unique_ptr<GateState> make_state(ExecutionContext& execution, std::int64_t capacity) const;

  const Variable& query_weight() const { return store_->variable(query_); }
  const Variable& key_weight() const { return store_->variable(key_); }

 private:
  Variable features(Tape& tape, const Variable& rows, const Variable& weight,
                    std::int64_t input_heads, const Tensor& positions) const;
  void append_keys(Tape& tape, const AttentionInput& input, GateState& state) const;
  Variable append_queries(Tape& tape, const AttentionInput& input, const BlockGrid& grid,
                          GateState& state) const;
  Variable query_features(Tape& tape, const Variable& queries_NHK, const BlockGrid& grid) const;

  ParameterStore* store_;
  std::size_t query_, key_;
  std::int64_t heads_, kv_heads_, head_dim_, gate_dim_, key_block_;
  RotaryFrequencies rotary_;
  bool keeps_means_;
};

}  // namespace filigree
