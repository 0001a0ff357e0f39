// The head gate of the adaptive mechanism: whether a head is worth its work for a group of queries.
//
//   s[n,h] = sigmoid(<w_h, q[first token of group n]> + <u_h, mean of the finished blocks' keys>)
//
// from what the projections gave before position embedding. Like the choice of blocks it sees
// nothing after the group's first token, so decoding, which keeps the blocks' means, decides alike.
#pragma once

#include "kernels/gate/block_grid.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

class HeadGate {
 public:
  explicit HeadGate(const MechanismContext& context);

  // From the groups' first queries and the blocks' mean keys: s [B*N, H], placed as they are. A
  // constant where the configuration has nothing learn.
  Variable scores(Tape& tape, const Variable& queries_NHK, const Variable& means_MGK,
                  const BlockGrid& grid) const;

  const Variable& query_weight() const { return store_->variable(query_); }
  const Variable& key_weight() const { return store_->variable(key_); }

 private:
  ParameterStore* store_;
  std::size_t query_, key_;
  std::int64_t heads_, head_dim_;
  bool learns_;
};

}  // namespace filigree
