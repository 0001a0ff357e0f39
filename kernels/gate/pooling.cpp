#include "kernels/gate/pooling.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

// tokens: [batch * S, C], blocks: [batch * ceil(S / block), pools * C], of one dtype.
std::optional<std::string> check(std::int64_t batch, std::int64_t block, const Tensor& tokens,
                                 const Tensor& blocks, std::int64_t pools = 1) {
  ArgumentCheck check;
  check.floating("tokens", tokens)
      .dtype("blocks", blocks, tokens.dtype())
      .require(block > 0, "a block of ", block, " tokens");
  if (check.problem()) return check.problem();
  check.require(tokens.rank() == 2 && batch > 0 ? tokens.dim(0) % batch == 0 : tokens.numel() == 0,
                "tokens is ", tokens.shape(), " for a batch of ", batch);
  if (check.problem() || batch == 0) return check.problem();
  const std::int64_t length = tokens.dim(0) / batch;
  return check
      .numel("blocks", blocks, batch * ((length + block - 1) / block) * pools * tokens.dim(1))
      .problem();
}

Work pass_over(const Tensor& in, const Tensor& out, std::int64_t flops) {
  return {flops, flops, in.bytes() + out.bytes()};
}

}  // namespace

Work BlockMeanKeys::work(const Arguments& a) {
  return pass_over(a.k_TC, a.kbar_MC, a.k_TC.numel() + a.kbar_MC.numel());
}
Work BlockMeanKeysBackward::work(const Arguments& a) {
  return pass_over(a.dkbar_MC, a.dk_TC, a.dkbar_MC.numel());
}
Work GroupQueries::work(const Arguments& a) { return pass_over(a.qg_NC, a.qg_NC, 0); }
Work GroupQueriesBackward::work(const Arguments& a) { return pass_over(a.dqg_NC, a.dq_TC, 0); }
Work GroupMeanQueries::work(const Arguments& a) {
  return pass_over(a.q_TC, a.qg_NC, a.q_TC.numel() + a.qg_NC.numel());
}
Work BlockMaxMinMeanKeys::work(const Arguments& a) {
  return pass_over(a.k_TGK, a.kp_MGP, 3 * a.k_TGK.numel() + a.kp_MGP.numel() / 3);
}
Work BlockMaxMinMeanKeysBackward::work(const Arguments& a) {
  Work work = pass_over(a.dkp_MGP, a.dk_TGK, 3 * a.k_TGK.numel());
  work.bytes += a.k_TGK.bytes();
  return work;
}

std::optional<std::string> BlockMeanKeys::reject(const Arguments& a, const ExecutionContext&) {
  return check(a.batch, a.key_block, a.k_TC, a.kbar_MC);
}
std::optional<std::string> BlockMeanKeysBackward::reject(const Arguments& a,
                                                         const ExecutionContext&) {
  return check(a.batch, a.key_block, a.dk_TC, a.dkbar_MC);
}
std::optional<std::string> GroupQueries::reject(const Arguments& a, const ExecutionContext&) {
  return check(a.batch, a.query_block, a.q_TC, a.qg_NC);
}
std::optional<std::string> GroupQueriesBackward::reject(const Arguments& a,
                                                        const ExecutionContext&) {
  return check(a.batch, a.query_block, a.dq_TC, a.dqg_NC);
}
std::optional<std::string> GroupMeanQueries::reject(const Arguments& a, const ExecutionContext&) {
  if (const auto problem = check(a.batch, a.query_block, a.q_TC, a.qg_NC)) return problem;
  if (!a.document_begin_T.defined()) return {};
  return ArgumentCheck()
      .dtype("document_begin", a.document_begin_T, DType::i32)
      .numel("document_begin", a.document_begin_T, a.q_TC.dim(0))
      .problem();
}
std::optional<std::string> BlockMaxMinMeanKeys::reject(const Arguments& a,
                                                       const ExecutionContext&) {
  if (const auto problem = check(a.batch, a.key_block, a.k_TGK, a.kp_MGP, 3)) return problem;
  return ArgumentCheck()
      .require(a.kv_heads > 0 && a.k_TGK.dim(1) % a.kv_heads == 0, "rows of ", a.k_TGK.dim(1),
               " for ", a.kv_heads, " heads")
      .problem();
}

std::optional<std::string> BlockMaxMinMeanKeysBackward::reject(const Arguments& a,
                                                               const ExecutionContext& context) {
  if (const auto problem = BlockMaxMinMeanKeys::reject(
          {a.batch, a.key_block, a.kv_heads, a.k_TGK, a.dkp_MGP}, context))
    return problem;
  return ArgumentCheck().floating("k", a.k_TGK).like("dk", a.dk_TGK, a.k_TGK).problem();
}

void register_pooling(KernelTable& table) {
  register_reference_and_cpu<BlockMeanKeys>(table);
  register_reference_and_cpu<BlockMeanKeysBackward>(table);
  register_reference_and_cpu<GroupQueries>(table);
  register_reference_and_cpu<GroupQueriesBackward>(table);
  register_reference_and_cpu<GroupMeanQueries>(table);
  register_reference_and_cpu<BlockMaxMinMeanKeys>(table);
  register_reference_and_cpu<BlockMaxMinMeanKeysBackward>(table);
}

}  // namespace filigree
