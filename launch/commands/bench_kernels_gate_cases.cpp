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

  Tensor tokens() const { return some_values({kTokens, kHeads * kDim}, dtype); }
  Tensor blocks() const { return some_values({kBlocks, kHeads * kDim}, dtype); }
  Tensor scores() const { return some_values({1, kHeads, kBlocks, kBlocks}, acc); }
  Tensor heads() const { return some_values({kBlocks, kHeads}, acc); }
  Tensor weight() const { return some_values({kHeads * kDim, kDim}, dtype); }
  Tensor result() const { return Tensor::zeros({1}, acc); }
  static Tensor scalar(float value) { return Tensor::from<float>({1}, std::array{value}); }
  Tensor teacher() const {
    const Tensor rows = some_values({1, kHeads, kSampled, kBlocks}, acc);
    for (float& value : rows.span<float>()) value = std::abs(value);
    return rows;
  }
  Tensor weights() const {
    const Tensor result = Tensor::empty({1, kHeads, kSampled}, acc);
    std::ranges::fill(result.span<float>(), 1.0f);
    return result;
  }
  static Tensor sampled() {
    const Tensor groups = Tensor::empty({kSampled}, DType::i32);
    for (std::int64_t r = 0; r < kSampled; ++r)
      groups.data<std::int32_t>()[r] = static_cast<std::int32_t>(r * kBlocks / kSampled);
    return groups;
  }
};

BlockSelect::Arguments selection(const GateData& data) {
  const std::vector<std::int32_t> budgets = budgets_for_density(kDensity, grid());
  const std::int64_t capacity = list_capacity(grid(), budgets, false);
  BlockSelect::Arguments a;
  a.grid = grid();
  a.scores_BHNM = data.scores();
  a.budgets_N = Tensor::from<std::int32_t>({kBlocks}, budgets);
  a.counts_BHN = Tensor::zeros({1, kHeads, kBlocks}, DType::i32);
  a.indices_BHNJ = Tensor::zeros({1, kHeads, kBlocks, capacity}, DType::i32);
  return a;
}

BlockSelect::Arguments chosen(const GateData& data) {
  const BlockSelect::Arguments a = selection(data);
  ExecutionContext context;
  dispatch<BlockSelect>(a, context);
  return a;
}

void add_pooling(KernelSuite& suite, const GateData& d) {
  suite.add<BlockMeanKeys>(
      kShape, d.dtype, true,
      [=] {
        return BlockMeanKeys::Arguments{1, kBlock, d.tokens(), d.blocks()};
      },
      [](const BlockMeanKeys::Arguments& a) { return std::vector{a.kbar_MC}; });
  suite.add<BlockMeanKeysBackward>(
      kShape, d.dtype, true,
      [=] {
        return BlockMeanKeysBackward::Arguments{1, kBlock, d.blocks(), d.tokens()};
      },
      [](const BlockMeanKeysBackward::Arguments& a) { return std::vector{a.dk_TC}; });
  suite.add<GroupQueries>(
      kShape, d.dtype, true,
      [=] {
        return GroupQueries::Arguments{1, kBlock, d.tokens(), d.blocks()};
      },
      [](const GroupQueries::Arguments& a) { return std::vector{a.qg_NC}; });
  suite.add<GroupQueriesBackward>(
      kShape, d.dtype, true,
      [=] {
        return GroupQueriesBackward::Arguments{1, kBlock, d.blocks(), d.tokens()};
      },
      [](const GroupQueriesBackward::Arguments& a) { return std::vector{a.dq_TC}; });
  suite.add<GroupMeanQueries>(
      kShape, d.dtype, true,
      [=] {
        return GroupMeanQueries::Arguments{1, kBlock, d.tokens(), {}, d.blocks()};
      },
      [](const GroupMeanQueries::Arguments& a) { return std::vector{a.qg_NC}; });
  suite.add<BlockMaxMinMeanKeys>(
      kShape, d.dtype, true,
      [=] {
        return BlockMaxMinMeanKeys::Arguments{1, kBlock, kHeads, d.tokens(),
                                              Tensor::zeros({kBlocks, 3 * kHeads * kDim}, d.dtype)};
      },
      [](const BlockMaxMinMeanKeys::Arguments& a) { return std::vector{a.kp_MGP}; });
  suite.add<BlockMaxMinMeanKeysBackward>(
      kShape, d.dtype, true,
      [=] {
        return BlockMaxMinMeanKeysBackward::Arguments{
            1,
            kBlock,
            kHeads,
            d.tokens(),
            some_values({kBlocks, 3 * kHeads * kDim}, d.dtype),
            d.tokens()};
      },
      [](const BlockMaxMinMeanKeysBackward::Arguments& a) { return std::vector{a.dk_TGK}; });
}

void add_projection(KernelSuite& suite, const GateData& d) {
  suite.add<HeadProjection>(
      kShape, d.dtype, false,
      [=] {
        return HeadProjection::Arguments{kHeads, kHeads, d.blocks(), d.weight(), d.blocks()};
      },
      [](const HeadProjection::Arguments& a) { return std::vector{a.y_THE}; });
  suite.add<HeadProjectionInputGradient>(
      kShape, d.dtype, false,
      [=] {
        return HeadProjectionInputGradient::Arguments{kHeads, kHeads, d.blocks(), d.weight(),
                                                      d.blocks()};
      },
      [](const HeadProjectionInputGradient::Arguments& a) { return std::vector{a.dx_THK}; });
  suite.add<HeadProjectionWeightGradient>(
      kShape, d.dtype, false,
      [=] {
        return HeadProjectionWeightGradient::Arguments{kHeads, kHeads, d.blocks(), d.blocks(),
                                                       Tensor::zeros({kHeads * kDim, kDim}, d.acc)};
      },
      [](const HeadProjectionWeightGradient::Arguments& a) { return std::vector{a.dw_HEK}; });
}

void add_choice(KernelSuite& suite, const GateData& d) {
  const double scale = 1 / std::sqrt(double(kDim));
  suite.add<GateScores>(
      kShape, d.dtype, false,
      [=] {
        return GateScores::Arguments{grid(), scale, d.blocks(), d.blocks(), d.scores()};
      },
      [](const GateScores::Arguments& a) { return std::vector{a.z_BHNM}; });
  suite.add<GateScoresBackward>(
      kShape, d.dtype, false,
      [=] {
        return GateScoresBackward::Arguments{grid(),     scale,      d.blocks(), d.blocks(),
                                             d.scores(), d.blocks(), d.blocks()};
      },
      [](const GateScoresBackward::Arguments& a) {
        return std::vector{a.dqg_NHE, a.dkg_MHE};
      });
  if (d.dtype != DType::f32) return;  // what follows reads scores, which are never bf16
  suite.add<BlockSelect>(
      kShape, d.dtype, true, [=] { return selection(d); },
      [](const BlockSelect::Arguments& a) {
        return std::vector{a.counts_BHN, a.indices_BHNJ};
      });
  suite.add<BlockTranspose>(
      kShape, d.dtype, true,
      [=] {
        const BlockSelect::Arguments lists = chosen(d);
        return BlockTranspose::Arguments{lists.counts_BHN, lists.indices_BHNJ,
                                         Tensor::zeros({1, kHeads, kBlocks}, DType::i32),
                                         Tensor::zeros({1, kHeads, kBlocks, kBlocks}, DType::i32)};
      },
      [](const BlockTranspose::Arguments& a) {
        return std::vector{a.transposed_counts_BHM, a.transposed_indices_BHMN};
      });
  suite.add<SoftGateBias>(
      kShape, d.dtype, true,
      [=] {
        const BlockSelect::Arguments lists = chosen(d);
        return SoftGateBias::Arguments{grid(),
                                       lists.scores_BHNM,
                                       lists.counts_BHN,
                                       lists.indices_BHNJ,
                                       {},
                                       Tensor::zeros(lists.indices_BHNJ.shape(), d.acc)};
      },
      [](const SoftGateBias::Arguments& a) { return std::vector{a.bias_BHNJ}; });
  suite.add<SoftGateBiasBackward>(
      kShape, d.dtype, true,
      [=] {
        const BlockSelect::Arguments lists = chosen(d);
        return SoftGateBiasBackward::Arguments{grid(),
                                               lists.scores_BHNM,
                                               lists.counts_BHN,
                                               lists.indices_BHNJ,
                                               {},
                                               some_values(lists.indices_BHNJ.shape(), d.acc),
                                               d.scores()};
      },
      [](const SoftGateBiasBackward::Arguments& a) { return std::vector{a.dz_BHNM}; });
}

void add_teacher(KernelSuite& suite, const GateData& d) {
  suite.add<BlockMassTeacher>(
      kSampledShape, d.dtype, false,
      [=] {
        BlockMassTeacher::Arguments a;
        a.grid = grid(), a.kv_heads = kHeads, a.scale = 1 / std::sqrt(double(kDim));
        a.q_THK = a.k_TGK = d.tokens(), a.groups_R = GateData::sampled();
        a.teacher_BHRM = d.teacher(), a.weight_BHR = d.weights();
        return a;
      },
      [](const BlockMassTeacher::Arguments& a) {
        return std::vector{a.teacher_BHRM, a.weight_BHR};
      });
  if (d.dtype != DType::f32) return;
  suite.add<DistillLoss>(
      kSampledShape, d.dtype, true,
      [=] {
        return DistillLoss::Arguments{grid(),      d.scores(), GateData::sampled(), d.teacher(),
                                      d.weights(), d.result(), d.result()};
      },
      [](const DistillLoss::Arguments& a) {
        return std::vector{a.loss, a.total};
      });
  suite.add<DistillLossGradient>(
      kSampledShape, d.dtype, true,
      [=] {
        return DistillLossGradient::Arguments{grid(),
                                              d.scores(),
                                              GateData::sampled(),
                                              d.teacher(),
                                              d.weights(),
                                              GateData::scalar(1.0f),
                                              GateData::scalar(kHeads * kSampled),
                                              d.scores()};
      },
      [](const DistillLossGradient::Arguments& a) { return std::vector{a.dz_BHNM}; });
  const Tensor sums = Tensor::zeros({kHeads}, DType::i64);
  suite.add<ListStatistics>(
      kShape, d.dtype, true,
      [=] {
        const BlockSelect::Arguments lists = chosen(d);
        return ListStatistics::Arguments{grid(),       lists.counts_BHN, lists.indices_BHNJ,
                                         sums.clone(), sums.clone(),     sums.clone()};
      },
      [](const ListStatistics::Arguments& a) {
        return std::vector{a.pairs_H, a.blocks_H, a.forced_H};
      });
  suite.add<GateRecall>(
      kSampledShape, d.dtype, true,
      [=] {
        const BlockSelect::Arguments lists = chosen(d);
        return GateRecall::Arguments{grid(),
                                     lists.counts_BHN,
                                     lists.indices_BHNJ,
                                     GateData::sampled(),
                                     d.teacher(),
                                     d.weights(),
                                     Tensor::zeros({kHeads}, d.acc),
                                     Tensor::zeros({kHeads}, d.acc)};
      },
      [](const GateRecall::Arguments& a) {
        return std::vector{a.caught_H, a.total_H};
      });
}

void add_head_gate(KernelSuite& suite, const GateData& d) {
  suite.add<FinishedKeyMean>(
      kShape, d.dtype, true,
      [=] {
        return FinishedKeyMean::Arguments{grid(), d.blocks(), d.blocks()};
      },
      [](const FinishedKeyMean::Arguments& a) { return std::vector{a.y_NC}; });
  suite.add<FinishedKeyMeanBackward>(
      kShape, d.dtype, true,
      [=] {
        return FinishedKeyMeanBackward::Arguments{grid(), d.blocks(), d.blocks()};
      },
      [](const FinishedKeyMeanBackward::Arguments& a) { return std::vector{a.dkbar_MC}; });
  suite.add<ScaleHeads>(
      kShape, d.dtype, true,
      [=] {
        return ScaleHeads::Arguments{grid(), d.tokens(), d.heads(), {}, d.tokens()};
      },
      [](const ScaleHeads::Arguments& a) { return std::vector{a.y_THK}; });
  suite.add<ScaleHeadsBackward>(
      kShape, d.dtype, true,
      [=] {
        return ScaleHeadsBackward::Arguments{grid(),     d.tokens(), d.heads(), {},
                                             d.tokens(), d.tokens(), d.heads()};
      },
      [](const ScaleHeadsBackward::Arguments& a) {
        return std::vector{a.do_THK, a.ds_NH};
      });
  suite.add<HeadGateForward>(
      kShape, d.dtype, true,
      [=] {
        const Tensor rows = some_values({kBlocks, kHeads}, d.dtype);
        return HeadGateForward::Arguments{rows, rows, d.heads()};
      },
      [](const HeadGateForward::Arguments& a) { return std::vector{a.s_NH}; });
  suite.add<HeadGateBackward>(
      kShape, d.dtype, true,
      [=] {
        return HeadGateBackward::Arguments{d.heads(), d.heads(),
                                           Tensor::zeros({kBlocks, kHeads}, d.dtype)};
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
