// Softmax attention with grouped key/value heads, in flash form: no buffer of size queries x keys
// (Dao et al. 2022, "FlashAttention"; grouped heads: Ainslie et al. 2023, "GQA").
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// Sizes shared by forward and backward. Tensors are token-major: q is [B*Sq, H*K], k and v are
// [B*Sk, G*K]; query head h reads key/value head h / (H/G). Query row i of a sequence stands at
// position i + query_offset among the keys: causal allows key j when j <= i + query_offset.
struct AttentionShape {
  std::int64_t batch = 0;
  std::int64_t query_length = 0, key_length = 0;             // Sq, Sk
  std::int64_t query_heads = 0, kv_heads = 0, head_dim = 0;  // H, G, K
  std::int64_t query_offset = 0;
  bool causal = true;
  double scale = 0.0;  // usually 1/sqrt(K)
};

// s[i,j] = scale * <q[i], k[j]>;  p = softmax_j over allowed j;  o[i] = sum_j p[i,j] v[j]
// lse[b,h,i] = log sum_j exp(s[i,j])   accumulation dtype, kept for backward. A row with no allowed
// key gives o = 0 and lse = -infinity.
struct AttentionForward {
  static constexpr std::string_view name = "attention_forward";
  struct Arguments {
    AttentionShape shape;
    Tensor q_THK, k_TGK, v_TGK, o_THK;
    Tensor lse_BHS;
  };
  static Work work(const Arguments&);
};

// With delta[i] = <do[i], o[i]>, p recomputed from lse, ds = p * (do v^T - delta):
//   dv[j] = sum_i p[i,j] do[i];  dq[i] = scale sum_j ds[i,j] k[j];  dk[j] = scale sum_i ds[i,j]
//   q[i]
// dq, dk, dv are overwritten. The heads of a group are added in ascending order.
struct AttentionBackward {
  static constexpr std::string_view name = "attention_backward";
  struct Arguments {
    AttentionShape shape;
    Tensor q_THK, k_TGK, v_TGK, o_THK, lse_BHS, do_THK;
    Tensor dq_THK, dk_TGK, dv_TGK;
  };
  static Work work(const Arguments&);
};

// Number of (query, key) pairs that the shape allows, per head.
std::int64_t allowed_pairs(const AttentionShape& shape);

}  // namespace filigree
