#include "kernels/loss/cross_entropy.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work CrossEntropyStatistics::work(const Arguments& a) {
  const std::int64_t flops = 4 * a.logits_TV.numel();  // compare, subtract, exp, add
  return {flops, flops,
          a.logits_TV.bytes() + a.targets_T.bytes() + a.max_T.bytes() + a.sum_T.bytes() +
              a.target_T.bytes()};
}

Work CrossEntropyGradient::work(const Arguments& a) {
  const std::int64_t flops = 3 * a.logits_TV.numel();  // subtract, exp, product
  return {flops, flops,
          2 * a.logits_TV.bytes() + a.targets_T.bytes() + a.lse_T.bytes() + a.scale_T.bytes()};
}

std::optional<std::string> CrossEntropyStatistics::reject(const Arguments& a,
                                                          const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("logits", a.logits_TV);
  if (check.problem()) return check.problem();
  const DType accumulation = accumulation_dtype(a.logits_TV.dtype());
  const std::int64_t rows = rows_of(a.logits_TV);
  return check.dtype("targets", a.targets_T, DType::i32)
      .numel("targets", a.targets_T, rows)
      .dtype("max", a.max_T, accumulation)
      .numel("max", a.max_T, rows)
      .dtype("sum", a.sum_T, accumulation)
      .numel("sum", a.sum_T, rows)
      .dtype("target", a.target_T, accumulation)
      .numel("target", a.target_T, rows)
      .problem();
}

std::optional<std::string> CrossEntropyGradient::reject(const Arguments& a,
                                                        const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("logits", a.logits_TV);
  if (check.problem()) return check.problem();
  const DType accumulation = accumulation_dtype(a.logits_TV.dtype());
  const std::int64_t rows = rows_of(a.logits_TV);
  return check.dtype("targets", a.targets_T, DType::i32)
      .numel("targets", a.targets_T, rows)
      .dtype("lse", a.lse_T, accumulation)
      .numel("lse", a.lse_T, rows)
      .dtype("scale", a.scale_T, accumulation)
      .numel("scale", a.scale_T, rows)
      .problem();
}

void register_cross_entropy(KernelTable& table) {
  register_reference_and_cpu<CrossEntropyStatistics>(table);
  register_reference_and_cpu<CrossEntropyGradient>(table);
}

}  // namespace filigree
