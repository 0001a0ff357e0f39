// What a gate sees of queries and keys: one row for each block or group.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// kbar[b,m,:] = mean over the tokens of key block m of k[b,t,:]; the last block of a sequence may
// be short. k: [B*S, C]; kbar: [B*M, C], M = ceil(S / key_block), of k's dtype. Tokens are added in
// ascending order in the accumulation dtype, so a block's mean does not depend on its surroundings.
struct BlockMeanKeys {
  static constexpr std::string_view name = "block_mean_keys";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, key_block = 0;
    Tensor k_TC, kbar_MC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dk[b,t,:] = dkbar[b,m,:] / (tokens of block m), t in m. dk is overwritten.
struct BlockMeanKeysBackward {
  static constexpr std::string_view name = "block_mean_keys_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, key_block = 0;
    Tensor dkbar_MC, dk_TC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// qg[b,n,:] = q[b, n * query_block, :], the query of each group's first token. q: [B*S, C];
// qg: [B*N, C], N = ceil(S / query_block), of q's dtype.
struct GroupQueries {
  static constexpr std::string_view name = "group_queries";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, query_block = 0;
    Tensor q_TC, qg_NC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dq[b, n * query_block, :] = dqg[b,n,:]; the other rows of dq become 0.
struct GroupQueriesBackward {
  static constexpr std::string_view name = "group_queries_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, query_block = 0;
    Tensor dqg_NC, dq_TC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// As SeerAttention pools keys (arXiv 2410.13276). kp[b,m,g,:] = concatenation of max, min and mean
// over the tokens of key block m of k[b,t,g,:]. k: [B*S, G*K]; kp: [B*M, G*3K], of k's dtype.
struct BlockMaxMinMeanKeys {
  static constexpr std::string_view name = "block_max_min_mean_keys";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, key_block = 0, kv_heads = 0;
    Tensor k_TGK, kp_MGP;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dk of the above: a token gets its share of the mean's gradient, and those of maximum and minimum
// where it is the first that attains them; the three are added before they are rounded. dk is
// overwritten.
struct BlockMaxMinMeanKeysBackward {
  static constexpr std::string_view name = "block_max_min_mean_keys_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, key_block = 0, kv_heads = 0;
    Tensor k_TGK, dkp_MGP, dk_TGK;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// What SeerAttention pools of queries (arXiv 2410.13276); its gate is trained alone, so there is no
// backward. qg[b,n,:] = mean of q[b,t,:] over the tokens t of group n, where document_begin is
// given only over those in the document of the group's first one. q: [B*S, C]; qg: [B*N, C], of q's
// dtype; document_begin: optional i32 [B*S], as in BlockGrid. Added like BlockMeanKeys.
struct GroupMeanQueries {
  static constexpr std::string_view name = "group_mean_queries";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t batch = 0, query_block = 0;
    Tensor q_TC, document_begin_T, qg_NC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
