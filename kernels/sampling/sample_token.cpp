#include "kernels/sampling/sample_token.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"
#include "kernels/sampling/weights.hpp"
#include "runtime/core/random.hpp"

namespace filigree {

Work SampleToken::work(const Arguments& a) {
  const std::int64_t flops = a.logits_V.numel();
  return {flops, flops, a.logits_V.bytes() + a.token.bytes()};
}

std::optional<std::string> SampleToken::reject(const Arguments& a, const ExecutionContext&) {
  const std::int64_t tokens = a.logits_V.numel();
  if (tokens < 1 || tokens > sampling::kMostTokens)
    return str("1 to ", sampling::kMostTokens, " tokens, not ", tokens);
  return ArgumentCheck()
      .floating("logits", a.logits_V)
      .require(a.logits_V.dtype() != DType::bf16, "logits are bf16; allowed: f64 f32")
      .dtype("token", a.token, DType::i32)
      .numel("token", a.token, 1)
      .problem();
}

double SampleToken::uniform(const Arguments& a) {
  return Philox(a.options.seed, RandomPurpose::sampling, 0)
      .uniform(static_cast<std::uint64_t>(a.position));
}

// One token at a time: the plain loops are fast enough for the CPU.
void register_sample_token(KernelTable& table) {
  table.add<SampleToken>(
      {"reference", DeviceKind::cpu, 0, &SampleToken::reject, &SampleToken::reference});
}

}  // namespace filigree
