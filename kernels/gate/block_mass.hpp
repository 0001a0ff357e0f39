// What attention itself gives to every key block: the target that a gate is distilled from,
// streamed over key blocks so that no buffer of queries x keys exists (SeerAttention, Gao et al.
// 2024, section 3.3).
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

enum class BlockStatistic { maximum, mass };

// For the group n = groups[r] of every head, with s[i,j] = scale <q[i], k[j]> and the softmax
// p[i,j] = exp(s[i,j] - lse[i]) over all keys j that query i may see (causality and documents, no
// block lists):
//   maximum: g[m] = max over the queries i of the group and the keys j of block m of p[i,j]
//   mass:    g[m] = sum over i and j of p[i,j]
//   teacher[b,h,r,m] = g[m] / sum over the candidates of g, 0 for other blocks.
// weight[b,h,r] = 1; 0 for a row with fewer than two candidates, which teaches nothing, with no
// mass on its candidates in this precision, or of a head with dense_heads[h] != 0, whose gate is
// not asked. entropy[b,h,r] = mean over i of (-sum_j p log p) / log(keys that i sees), 0 where that
// is one key; largest[b,h,r] = max s[i,j]. Both optional. q: [B*Sq, H*K], k: [B*Sk, G*K], G divides
// H; outputs in the accumulation dtype; groups: i32 [R], each in [0, N).
struct BlockMassTeacher {
  static constexpr std::string_view name = "block_mass_teacher";
  static constexpr WorkPart part = WorkPart::teacher;
  struct Arguments {
    BlockGrid grid;
    std::int64_t kv_heads = 0;
    double scale = 0.0;
    BlockStatistic statistic = BlockStatistic::maximum;
    Tensor q_THK, k_TGK, groups_R;
    Tensor dense_heads_H;  // optional u8 [H]
    Tensor teacher_BHRM, weight_BHR;
    Tensor entropy_BHR, largest_BHR;
  };
  static Work work(const Arguments&);
  static void count_later(const Arguments&, ExecutionContext&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// pairs[0] = pairs[1] = pairs (query, key) of the groups that the grid lets see each other, over
// all sequences, of one head. pairs: i64 [2].
struct CountGroupPairs {
  static constexpr std::string_view name = "count_group_pairs";
  struct Arguments {
    BlockGrid grid;
    Tensor groups_R;  // i32
    Tensor pairs;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// The part that both implementations share: g becomes the teacher's row, in place. Returns the
// row's weight.
template <class A>
A normalise_teacher(const BlockRange& candidates, std::int64_t blocks, bool dense, A* row) {
  A sum = 0;
  for (std::int64_t m = candidates.begin; m < candidates.end; ++m) sum += row[m];
  for (std::int64_t m = 0; m < blocks; ++m)
    row[m] = candidates.contains(m) && sum > 0 ? row[m] / sum : A{0};
  return candidates.size() >= 2 && sum > 0 && !dense ? A{1} : A{0};
}

}  // namespace filigree
