// How well each key block fits each group of queries: the score that a gate chooses by.
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

// z[b,h,n,m] = scale <qg[b,n,h,:], kg[b,m,h,:]> for the candidates m of group n (GroupBlocks),
// -infinity for every other block. qg: [B*N, H*E], kg: [B*M, H*E]; z: [B,H,N,M] in the accumulation
// dtype. scale is usually 1/sqrt(E). The causal choice thus sees no token after the group's first.
struct GateScores {
  static constexpr std::string_view name = "gate_scores";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    double scale = 0.0;
    Tensor qg_NHE, kg_MHE, z_BHNM;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// With dz read at candidates only:
//   dqg[b,n,h,:] = scale sum_m dz[b,h,n,m] kg[b,m,h,:];  dkg[b,m,h,:] = scale sum_n dz[b,h,n,m]
//   qg[b,n,h,:]
// Both are overwritten.
struct GateScoresBackward {
  static constexpr std::string_view name = "gate_scores_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    double scale = 0.0;
    Tensor qg_NHE, kg_MHE, dz_BHNM;
    Tensor dqg_NHE, dkg_MHE;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// Candidates of all groups of all sequences, per head, on the grid that is known_to_host.
std::int64_t candidate_count(const BlockGrid& grid);

}  // namespace filigree
