// Softmax attention with grouped key/value heads, in flash form: no buffer of size queries x keys
// (Dao et al. 2022, "FlashAttention"; grouped heads: Ainslie et al. 2023, "GQA"). Dense attention
// and every fixed or chosen sparsity are one op: a pattern says which keys a query may read.
#pragma once

#include "kernels/attention/block_lists.hpp"
#include "kernels/dispatch.hpp"

namespace filigree {

// Sizes shared by forward and backward. Tensors are token-major: q is [B*Sq, H*K], k and v are
// [B*Sk, G*K]; query head h reads key/value head h / (H/G). Query row i of a sequence stands at
// position p = i + query_offset among the keys: causal allows key j when j <= p.
struct AttentionShape {
  std::int64_t batch = 0;
  std::int64_t query_length = 0, key_length = 0;             // Sq, Sk
  std::int64_t query_heads = 0, kv_heads = 0, head_dim = 0;  // H, G, K
  std::int64_t query_offset = 0;
  bool causal = true;
  double scale = 0.0;  // usually 1/sqrt(K)
};

// The query at position p may read key j when causality and its document allow it, and
//   there are neither lists nor window nor sinks                      (dense), or
//   the block of j is in the list of p's group                        (chosen), or
//   p - j < window; without causality |p - j| < window                (near), or
//   j < sinks + the first position of p's document                    (sink).
// With query_offset, group 0 of the lists is the one that holds position query_offset; blocks count
// from key 0. Lists and documents need query_offset >= 0, documents also query_offset + Sq <= Sk.
struct AttentionPattern {
  std::int64_t window = 0, sinks = 0;  // tokens
  BlockLists lists;
  // Optional, accumulation dtype: added to the logits of the block that the slot names, also where
  // the window allows the key as well. Finite, or -infinity, which silences the block.
  Tensor bias_BHNJ;
  // Optional, i32 [B*Sk]: the document that the token at this position belongs to, as positions
  // [begin, end) of the sequence.
  Tensor document_begin_T, document_end_T;

  // No choice to make: every key that causality and documents leave.
  bool reads_everything() const { return !lists.defined() && window == 0 && sinks == 0; }
  bool is_dense() const { return reads_everything() && !document_begin_T.defined(); }
};

// s[i,j] = scale * <q[i], k[j]> + bias;  p = softmax_j over allowed j;  o[i] = sum_j p[i,j] v[j]
// lse[b,h,i] = log sum_j exp(s[i,j])   accumulation dtype, kept for backward. A row with no allowed
// key gives o = 0 and lse = -infinity.
struct AttentionForward {
  static constexpr std::string_view name = "attention_forward";
  static constexpr WorkPart part = WorkPart::attention;
  struct Arguments {
    AttentionShape shape;
    Tensor q_THK, k_TGK, v_TGK, o_THK;
    Tensor lse_BHS;
    AttentionPattern pattern = {};
  };
  static Work work(const Arguments&);
  static void count_later(const Arguments&, ExecutionContext&);
  // Of the CUDA implementation: f32 and bf16, heads of up to 128.
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// With delta[i] = <do[i], o[i]>, p recomputed from lse, ds = p * (do v^T - delta):
//   dv[j] = sum_i p[i,j] do[i];  dq[i] = scale sum_j ds[i,j] k[j];  dk[j] = scale sum_i ds[i,j]
//   q[i];  dbias[slot] = sum of ds over the queries of the group and the keys of the block
// dq, dk, dv and dbias (defined when bias is) are overwritten; slots past a count get 0. The heads
// of a group are added in ascending order.
struct AttentionBackward {
  static constexpr std::string_view name = "attention_backward";
  static constexpr WorkPart part = WorkPart::attention;
  struct Arguments {
    AttentionShape shape;
    Tensor q_THK, k_TGK, v_TGK, o_THK, lse_BHS, do_THK;
    Tensor dq_THK, dk_TGK, dv_TGK;
    AttentionPattern pattern = {};
    Tensor dbias_BHNJ = {};
  };
  static Work work(const Arguments&);
  static void count_later(const Arguments&, ExecutionContext&);
  // Of the CUDA implementation: f32 and bf16, heads of up to 128.
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// Number of (query, key) pairs that the shape allows, per sequence and head.
std::int64_t allowed_pairs(const AttentionShape& shape);

// The same with documents, and the number that the pattern reads, exactly; both over all sequences
// and heads. Their ratio is the density. Host tensors.
std::int64_t allowed_pairs(const AttentionShape& shape, const AttentionPattern& pattern);
std::int64_t visited_pairs(const AttentionShape& shape, const AttentionPattern& pattern);

// Sizes of the lists that fit a shape: N groups of queries, M blocks of keys.
std::int64_t query_groups(const AttentionShape& shape, std::int64_t query_block);
std::int64_t key_blocks(const AttentionShape& shape, std::int64_t key_block);

}  // namespace filigree
