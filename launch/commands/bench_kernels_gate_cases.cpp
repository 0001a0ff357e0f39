// The gate's ops at 8,192 tokens, blocks and groups of 64 and a tenth of the pairs: what choosing
// and teaching cost beside the attention that they save.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/block_selection.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/distill_loss.hpp"
#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/gate_statistics.hpp"
#include "kernels/gate/head_gate.hpp"
#include "kernels/gate/head_projection.hpp"
#include "kernels/gate/pooling.hpp"
#include "kernels/gate/soft_gate.hpp"
#include "launch/commands/bench_kernels_suite.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kTokens = 8192, kHeads = 8, kDim = 64, kBlock = 64;
constexpr std::int64_t kBlocks = kTokens / kBlock, kSampled = kBlocks / 32;
constexpr double kDensity = 0.1;
const std::string kShape = str(kTokens, ", ", kHeads, " heads of ", kDim, ", blocks of ", kBlock);
const std::string kSampledShape = str(kShape, ", ", kSampled, " groups");

BlockGrid grid() {
  BlockGrid result;
  result.batch = 1;
  result.heads = kHeads;
  result.query_length = result.key_length = kTokens;
  result.query_block = result.key_block = kBlock;
  return result;
}

// What one measurement works on.
struct GateData {
  DType dtype = DType::f32;  // or bf16
  DType acc = DType::f32;

  using T = CaseTensors;
  Tensor tokens(const T& t) const { return t.values({kTokens, kHeads * kDim}, dtype); }
  Tensor blocks(const T& t) const { return t.values({kBlocks, kHeads * kDim}, dtype); }
  Tensor scores(const T& t) const { return t.values({1, kHeads, kBlocks, kBlocks}, acc); }
  Tensor heads(const T& t) const { return t.values({kBlocks, kHeads}, acc); }
  Tensor weight(const T& t) const { return t.values({kHeads * kDim, kDim}, dtype); }
  Tensor result(const T& t) const { return t.zeros({1}, acc); }
  static Tensor scalar(const T& t, float value) {
    return t.given(Tensor::from<float>({1}, std::array{value}));
  }
  Tensor teacher(const T& t) const {
    const Tensor rows = some_values({1, kHeads, kSampled, kBlocks}, acc);
    for (float& value : rows.span<float>()) value = std::abs(value);
    return t.given(rows);
  }
  Tensor weights(const T& t) const {
    const Tensor result = Tensor::empty({1, kHeads, kSampled}, acc);
    std::ranges::fill(result.span<float>(), 1.0f);
    return t.given(result);
  }
  static Tensor sampled(const T& t) {
    const Tensor groups = Tensor::empty({kSampled}, DType::i32);
    for (std::int64_t r = 0; r < kSampled; ++r)
      groups.data<std::int32_t>()[r] = static_cast<std::int32_t>(r * kBlocks / kSampled);
    return t.given(groups);
  }
};

BlockSelect::Arguments selection(const CaseTensors& t, const GateData& data) {
  const std::vector<std::int32_t> budgets = budgets_for_density(kDensity, grid());
  const std::int64_t capacity = list_capacity(grid(), budgets, false);
  BlockSelect::Arguments a;
  a.grid = grid();
  a.scores_BHNM = data.scores(t);
  a.budgets_N = t.given(Tensor::from<std::int32_t>({kBlocks}, budgets));
  a.counts_BHN = t.zeros({1, kHeads, kBlocks}, DType::i32);
  a.indices_BHNJ = t.zeros({1, kHeads, kBlocks, capacity}, DType::i32);
  return a;
}

BlockSelect::Arguments chosen(const CaseTensors& t, const GateData& data) {
  ExecutionContext host;
  BlockSelect::Arguments a = selection(CaseTensors(host), data);
  dispatch<BlockSelect>(a, host);
  for (Tensor* tensor : {&a.scores_BHNM, &a.budgets_N, &a.counts_BHN, &a.indices_BHNJ})
    *tensor = t.given(*tensor);
  return a;
}

void add_pooling(KernelSuite& suite, const GateData& d) {
  suite.add<BlockMeanKeys>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return BlockMeanKeys::Arguments{1, kBlock, d.tokens(t), d.blocks(t)};
      },
      [](const BlockMeanKeys::Arguments& a) { return std::vector{a.kbar_MC}; });
  suite.add<BlockMeanKeysBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return BlockMeanKeysBackward::Arguments{1, kBlock, d.blocks(t), d.tokens(t)};
      },
      [](const BlockMeanKeysBackward::Arguments& a) { return std::vector{a.dk_TC}; });
  suite.add<GroupQueries>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return GroupQueries::Arguments{1, kBlock, d.tokens(t), d.blocks(t)};
      },
      [](const GroupQueries::Arguments& a) { return std::vector{a.qg_NC}; });
  suite.add<GroupQueriesBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return GroupQueriesBackward::Arguments{1, kBlock, d.blocks(t), d.tokens(t)};
      },
      [](const GroupQueriesBackward::Arguments& a) { return std::vector{a.dq_TC}; });
  suite.add<GroupMeanQueries>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return GroupMeanQueries::Arguments{1, kBlock, d.tokens(t), {}, d.blocks(t)};
      },
      [](const GroupMeanQueries::Arguments& a) { return std::vector{a.qg_NC}; });
  suite.add<BlockMaxMinMeanKeys>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return BlockMaxMinMeanKeys::Arguments{1, kBlock, kHeads, d.tokens(t),
                                              t.zeros({kBlocks, 3 * kHeads * kDim}, d.dtype)};
      },
      [](const BlockMaxMinMeanKeys::Arguments& a) { return std::vector{a.kp_MGP}; });
  suite.add<BlockMaxMinMeanKeysBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return BlockMaxMinMeanKeysBackward::Arguments{
            1,
            kBlock,
            kHeads,
            d.tokens(t),
            t.values({kBlocks, 3 * kHeads * kDim}, d.dtype),
            d.tokens(t)};
      },
      [](const BlockMaxMinMeanKeysBackward::Arguments& a) { return std::vector{a.dk_TGK}; });
}

void add_projection(KernelSuite& suite, const GateData& d) {
  suite.add<HeadProjection>(
      kShape, d.dtype, false,
      [=](const CaseTensors& t) {
        return HeadProjection::Arguments{kHeads, kHeads, d.blocks(t), d.weight(t), d.blocks(t)};
      },
      [](const HeadProjection::Arguments& a) { return std::vector{a.y_THE}; });
  suite.add<HeadProjectionInputGradient>(
      kShape, d.dtype, false,
      [=](const CaseTensors& t) {
        return HeadProjectionInputGradient::Arguments{kHeads, kHeads, d.blocks(t), d.weight(t),
                                                      d.blocks(t)};
      },
      [](const HeadProjectionInputGradient::Arguments& a) { return std::vector{a.dx_THK}; });
  suite.add<HeadProjectionWeightGradient>(
      kShape, d.dtype, false,
      [=](const CaseTensors& t) {
        return HeadProjectionWeightGradient::Arguments{kHeads, kHeads, d.blocks(t), d.blocks(t),
                                                       t.zeros({kHeads * kDim, kDim}, d.acc)};
      },
      [](const HeadProjectionWeightGradient::Arguments& a) { return std::vector{a.dw_HEK}; });
}

void add_choice(KernelSuite& suite, const GateData& d) {
  const double scale = 1 / std::sqrt(double(kDim));
  suite.add<GateScores>(
      kShape, d.dtype, false,
      [=](const CaseTensors& t) {
        return GateScores::Arguments{grid(), scale, d.blocks(t), d.blocks(t), d.scores(t)};
      },
      [](const GateScores::Arguments& a) { return std::vector{a.z_BHNM}; });
  suite.add<GateScoresBackward>(
      kShape, d.dtype, false,
      [=](const CaseTensors& t) {
        return GateScoresBackward::Arguments{grid(),      scale,       d.blocks(t), d.blocks(t),
                                             d.scores(t), d.blocks(t), d.blocks(t)};
      },
      [](const GateScoresBackward::Arguments& a) {
        return std::vector{a.dqg_NHE, a.dkg_MHE};
      });
  if (d.dtype != DType::f32) return;  // what follows reads scores, which are never bf16
  suite.add<BlockSelect>(
      kShape, d.dtype, true, [=](const CaseTensors& t) { return selection(t, d); },
      [](const BlockSelect::Arguments& a) {
        return std::vector{a.counts_BHN, a.indices_BHNJ};
      });
  suite.add<BlockTranspose>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const BlockSelect::Arguments lists = chosen(t, d);
        return BlockTranspose::Arguments{lists.counts_BHN, lists.indices_BHNJ,
                                         t.zeros({1, kHeads, kBlocks}, DType::i32),
                                         t.zeros({1, kHeads, kBlocks, kBlocks}, DType::i32)};
      },
      [](const BlockTranspose::Arguments& a) {
        return std::vector{a.transposed_counts_BHM, a.transposed_indices_BHMN};
      });
  suite.add<SoftGateBias>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const BlockSelect::Arguments lists = chosen(t, d);
        return SoftGateBias::Arguments{grid(),
                                       lists.scores_BHNM,
                                       lists.counts_BHN,
                                       lists.indices_BHNJ,
                                       {},
                                       t.zeros(lists.indices_BHNJ.shape(), d.acc)};
      },
      [](const SoftGateBias::Arguments& a) { return std::vector{a.bias_BHNJ}; });
  suite.add<SoftGateBiasBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const BlockSelect::Arguments lists = chosen(t, d);
        return SoftGateBiasBackward::Arguments{grid(),
                                               lists.scores_BHNM,
                                               lists.counts_BHN,
                                               lists.indices_BHNJ,
                                               {},
                                               t.values(lists.indices_BHNJ.shape(), d.acc),
                                               d.scores(t)};
      },
      [](const SoftGateBiasBackward::Arguments& a) { return std::vector{a.dz_BHNM}; });
}

void add_teacher(KernelSuite& suite, const GateData& d) {
  suite.add<BlockMassTeacher>(
      kSampledShape, d.dtype, false,
      [=](const CaseTensors& t) {
        BlockMassTeacher::Arguments a;
        a.grid = grid(), a.kv_heads = kHeads, a.scale = 1 / std::sqrt(double(kDim));
        a.q_THK = a.k_TGK = d.tokens(t), a.groups_R = GateData::sampled(t);
        a.teacher_BHRM = d.teacher(t), a.weight_BHR = d.weights(t);
        return a;
      },
      [](const BlockMassTeacher::Arguments& a) {
        return std::vector{a.teacher_BHRM, a.weight_BHR};
      });
  if (d.dtype != DType::f32) return;
  suite.add<CountGroupPairs>(
      kSampledShape, d.dtype, true,
      [](const CaseTensors& t) {
        return CountGroupPairs::Arguments{grid(), GateData::sampled(t), t.zeros({2}, DType::i64)};
      },
      [](const CountGroupPairs::Arguments&) { return std::vector<Tensor>{}; });
  suite.add<DistillLoss>(
      kSampledShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return DistillLoss::Arguments{grid(),       d.scores(t), GateData::sampled(t), d.teacher(t),
                                      d.weights(t), d.result(t), d.result(t)};
      },
      [](const DistillLoss::Arguments& a) {
        return std::vector{a.loss, a.total};
      });
  suite.add<DistillLossGradient>(
      kSampledShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return DistillLossGradient::Arguments{grid(),
                                              d.scores(t),
                                              GateData::sampled(t),
                                              d.teacher(t),
                                              d.weights(t),
                                              GateData::scalar(t, 1.0f),
                                              GateData::scalar(t, kHeads * kSampled),
                                              d.scores(t)};
      },
      [](const DistillLossGradient::Arguments& a) { return std::vector{a.dz_BHNM}; });
  suite.add<ListStatistics>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const BlockSelect::Arguments lists = chosen(t, d);
        return ListStatistics::Arguments{grid(),
                                         lists.counts_BHN,
                                         lists.indices_BHNJ,
                                         t.zeros({kHeads}, DType::i64),
                                         t.zeros({kHeads}, DType::i64),
                                         t.zeros({kHeads}, DType::i64)};
      },
      [](const ListStatistics::Arguments& a) {
        return std::vector{a.pairs_H, a.blocks_H, a.forced_H};
      });
  suite.add<GateRecall>(
      kSampledShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const BlockSelect::Arguments lists = chosen(t, d);
        return GateRecall::Arguments{
            grid(),       lists.counts_BHN, lists.indices_BHNJ,       GateData::sampled(t),
            d.teacher(t), d.weights(t),     t.zeros({kHeads}, d.acc), t.zeros({kHeads}, d.acc)};
      },
      [](const GateRecall::Arguments& a) {
        return std::vector{a.caught_H, a.total_H};
      });
}

void add_head_gate(KernelSuite& suite, const GateData& d) {
  suite.add<FinishedKeyMean>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return FinishedKeyMean::Arguments{grid(), d.blocks(t), d.blocks(t)};
      },
      [](const FinishedKeyMean::Arguments& a) { return std::vector{a.y_NC}; });
  suite.add<FinishedKeyMeanBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return FinishedKeyMeanBackward::Arguments{grid(), d.blocks(t), d.blocks(t)};
      },
      [](const FinishedKeyMeanBackward::Arguments& a) { return std::vector{a.dkbar_MC}; });
  suite.add<ScaleHeads>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return ScaleHeads::Arguments{grid(), d.tokens(t), d.heads(t), {}, d.tokens(t)};
      },
      [](const ScaleHeads::Arguments& a) { return std::vector{a.y_THK}; });
  suite.add<ScaleHeadsBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return ScaleHeadsBackward::Arguments{grid(),      d.tokens(t), d.heads(t), {},
                                             d.tokens(t), d.tokens(t), d.heads(t)};
      },
      [](const ScaleHeadsBackward::Arguments& a) {
        return std::vector{a.do_THK, a.ds_NH};
      });
  suite.add<HeadGateForward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        const Tensor rows = t.values({kBlocks, kHeads}, d.dtype);
        return HeadGateForward::Arguments{rows, rows, d.heads(t)};
      },
      [](const HeadGateForward::Arguments& a) { return std::vector{a.s_NH}; });
  suite.add<HeadGateBackward>(
      kShape, d.dtype, true,
      [=](const CaseTensors& t) {
        return HeadGateBackward::Arguments{d.heads(t), d.heads(t),
                                           t.zeros({kBlocks, kHeads}, d.dtype)};
      },
      [](const HeadGateBackward::Arguments& a) { return std::vector{a.d_NH}; });
}

}  // namespace

void add_gate_cases(KernelSuite& suite, DType dtype) {
  const GateData data{.dtype = dtype};
  add_pooling(suite, data);
  add_projection(suite, data);
  add_choice(suite, data);
  add_teacher(suite, data);
  add_head_gate(suite, data);
}

}  // namespace filigree
