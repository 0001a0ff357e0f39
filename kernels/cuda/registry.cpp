#include "kernels/cuda/registry.hpp"

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/attention/attention_cudnn.hpp"
#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/block_selection.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/cuda/register_cuda.hpp"
#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/fill.hpp"
#include "kernels/elementwise/scalars.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/distill_loss.hpp"
#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/gate_statistics.hpp"
#include "kernels/gate/head_gate.hpp"
#include "kernels/gate/head_projection.hpp"
#include "kernels/gate/pooling.hpp"
#include "kernels/gate/soft_gate.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/loss/token_losses.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/norm/rms_norm.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"
#include "kernels/random/normal_fill.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/sampling/sample_token.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable& table) {
  register_cuda<Matmul, &Matmul::Arguments::a>(table, "cublaslt");
  register_cuda<SwigluForward, &SwigluForward::Arguments::gate_TF>(table);
  register_cuda<SwigluBackward, &SwigluBackward::Arguments::gate_TF>(table);
  register_cuda<SigmoidGateForward, &SigmoidGateForward::Arguments::x_TF>(table);
  register_cuda<SigmoidGateBackward, &SigmoidGateBackward::Arguments::x_TF>(table);
  register_cuda<Add, &Add::Arguments::y>(table);
  register_cuda<Scale>(table);
  register_cuda<Divide>(table);
  register_cuda<SquareRoot>(table);
  register_cuda<Dot, &Dot::Arguments::a>(table);
  register_cuda<Dropout, &Dropout::Arguments::x_TD>(table);
  register_cuda<EmbeddingForward, &EmbeddingForward::Arguments::w_VD>(table);
  register_cuda<EmbeddingBackward, &EmbeddingBackward::Arguments::dy_TD>(table);
  register_cuda<Rope, &Rope::Arguments::x_THK>(table);
  register_cuda<CrossEntropyStatistics, &CrossEntropyStatistics::Arguments::logits_TV>(table);
  register_cuda<CrossEntropyGradient, &CrossEntropyGradient::Arguments::logits_TV>(table);
  register_cuda<CountPairs>(table);
  register_cuda<RescaleSums, &RescaleSums::Arguments::sum_T>(table);
  register_cuda<TokenLosses, &TokenLosses::Arguments::sum_T>(table);
  register_cuda<Fill, &Fill::Arguments::y>(table);
  register_cuda<NormalFill, &NormalFill::Arguments::x_RC>(table);
  register_cuda<SampleToken, &SampleToken::Arguments::logits_V>(table);
  register_cuda<RmsNormForward, &RmsNormForward::Arguments::x_TD>(table);
  register_cuda<RmsNormBackward, &RmsNormBackward::Arguments::x_TD>(table);
  register_cuda<AdamW, &AdamW::Arguments::w_N>(table);
  register_cuda<UpdateFactors>(table);
  register_cuda<SumSquares, &SumSquares::Arguments::x_N>(table);
  register_cuda<BlockMeanKeys, &BlockMeanKeys::Arguments::k_TC>(table);
  register_cuda<BlockMeanKeysBackward, &BlockMeanKeysBackward::Arguments::dk_TC>(table);
  register_cuda<GroupQueries, &GroupQueries::Arguments::q_TC>(table);
  register_cuda<GroupQueriesBackward, &GroupQueriesBackward::Arguments::dq_TC>(table);
  register_cuda<GroupMeanQueries, &GroupMeanQueries::Arguments::q_TC>(table);
  register_cuda<BlockMaxMinMeanKeys, &BlockMaxMinMeanKeys::Arguments::k_TGK>(table);
  register_cuda<BlockMaxMinMeanKeysBackward, &BlockMaxMinMeanKeysBackward::Arguments::k_TGK>(table);
  register_cuda<HeadProjection, &HeadProjection::Arguments::x_THK>(table);
  register_cuda<HeadProjectionInputGradient, &HeadProjectionInputGradient::Arguments::dx_THK>(
      table);
  register_cuda<HeadProjectionWeightGradient, &HeadProjectionWeightGradient::Arguments::x_THK>(
      table);
  register_cuda<GateScores, &GateScores::Arguments::qg_NHE>(table);
  register_cuda<GateScoresBackward, &GateScoresBackward::Arguments::qg_NHE>(table);
  register_cuda<BlockSelect, &BlockSelect::Arguments::scores_BHNM>(table);
  register_cuda<BlockTranspose>(table);
  register_cuda<SoftGateBias, &SoftGateBias::Arguments::z_BHNM>(table);
  register_cuda<SoftGateBiasBackward, &SoftGateBiasBackward::Arguments::z_BHNM>(table);
  register_cuda<CountGroupPairs>(table);
  register_cuda<BlockMassTeacher, &BlockMassTeacher::Arguments::q_THK>(table);
  register_cuda<DistillLoss, &DistillLoss::Arguments::z_BHNM>(table);
  register_cuda<DistillLossGradient, &DistillLossGradient::Arguments::z_BHNM>(table);
  register_cuda<FinishedKeyMean, &FinishedKeyMean::Arguments::kbar_MC>(table);
  register_cuda<FinishedKeyMeanBackward, &FinishedKeyMeanBackward::Arguments::dkbar_MC>(table);
  register_cuda<HeadGateForward, &HeadGateForward::Arguments::a_NH>(table);
  register_cuda<HeadGateBackward, &HeadGateBackward::Arguments::d_NH>(table);
  register_cuda<ScaleHeads, &ScaleHeads::Arguments::o_THK>(table);
  register_cuda<ScaleHeadsBackward, &ScaleHeadsBackward::Arguments::o_THK>(table);
  register_cuda<ListStatistics>(table);
  register_cuda<AttentionForward>(table);
  table.add<AttentionForward>(
      {"hopper", DeviceKind::cuda, 20, reject_attention_forward_hopper, attention_forward_hopper});
  register_cuda<AttentionBackward>(table);
  table.add<AttentionBackward>({"hopper", DeviceKind::cuda, 20, reject_attention_backward_hopper,
                                attention_backward_hopper});
  add_cudnn_attention(table);
  register_cuda<GateRecall, &GateRecall::Arguments::teacher_BHRM>(table);
}

}  // namespace filigree
