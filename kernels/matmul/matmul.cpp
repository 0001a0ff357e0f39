#include "kernels/matmul/matmul.hpp"

#include "kernels/elementwise/floating.hpp"
#include "kernels/matmul/matmul_implementations.hpp"
#include "kernels/registry.hpp"

namespace filigree {

namespace {

std::optional<std::string> reject_onednn(const Matmul::Arguments& a,
                                         const ExecutionContext& context) {
  if (auto reason = Matmul::reject(a, context)) return reason;
  return matmul_onednn_reject(a, context);
}

// With nothing to multiply, c is left as it is (accumulate) or becomes zeros, plus the bias: no
// library is asked.
template <void (*run)(const Matmul::Arguments&, ExecutionContext&)>
void unless_empty(const Matmul::Arguments& a, ExecutionContext& context) {
  const MatmulSizes sizes = matmul_sizes(a);
  if (sizes.m == 0 || sizes.n == 0) return;
  if (sizes.k > 0)
    run(a, context);
  else if (a.bias.defined())
    matmul_reference(a, context);
  else if (!a.accumulate)
    a.c.zero();
}

}  // namespace

MatmulSizes matmul_sizes(const Matmul::Arguments& a) {
  FILIGREE_CHECK(a.a.rank() == 2 && a.b.rank() == 2 && a.c.rank() == 2, "a ", a.a.shape(), ", b ",
                 a.b.shape(), ", c ", a.c.shape());
  const MatmulSizes sizes = {a.c.dim(0), a.c.dim(1), a.a.dim(a.transpose_a ? 0 : 1)};
  const Shape expected_a = a.transpose_a ? Shape{sizes.k, sizes.m} : Shape{sizes.m, sizes.k};
  const Shape expected_b = a.transpose_b ? Shape{sizes.n, sizes.k} : Shape{sizes.k, sizes.n};
  FILIGREE_CHECK_EQ(a.a.shape(), expected_a, "a, for c ", a.c.shape(), " and b ", a.b.shape());
  FILIGREE_CHECK_EQ(a.b.shape(), expected_b, "b, for c ", a.c.shape(), " and a ", a.a.shape());
  if (a.bias.defined())
    FILIGREE_CHECK_EQ(a.bias.shape(), Shape({sizes.n}), "bias, for c ", a.c.shape());
  return sizes;
}

std::optional<std::string> Matmul::reject(const Arguments& a, const ExecutionContext&) {
  const DType in = a.a.dtype(), out = a.c.dtype();
  if (!is_compute_dtype(in)) return str("computes in f64, f32 and bf16, not in ", name_of(in));
  if (a.b.dtype() != in) return str("a is ", name_of(in), " but b is ", name_of(a.b.dtype()));
  if (out != in && !(in == DType::bf16 && out == DType::f32))
    return str("writes ", name_of(in), in == DType::bf16 ? " or f32" : "", ", not ", name_of(out));
  if (a.bias.defined() && a.bias.dtype() != out)
    return str("c is ", name_of(out), " but bias is ", name_of(a.bias.dtype()));
  return std::nullopt;
}

Work Matmul::work(const Arguments& a) {
  const bool biased = a.bias.defined();
  const std::int64_t k = a.a.dim(a.transpose_a ? 0 : 1);
  const std::int64_t flops = (2 * k + (biased ? 1 : 0)) * a.c.numel();
  const std::int64_t bytes = a.a.bytes() + a.b.bytes() + (a.accumulate ? 2 : 1) * a.c.bytes() +
                             (biased ? a.bias.bytes() : 0);
  return {flops, flops, bytes};
}

void register_matmul(KernelTable& table) {
  table.add<Matmul>({"reference", DeviceKind::cpu, 0, &Matmul::reject, matmul_reference});
  table.add<Matmul>({"cpu", DeviceKind::cpu, 10, &Matmul::reject, unless_empty<matmul_cpu>});
  table.add<Matmul>({"onednn", DeviceKind::cpu, 20, reject_onednn, unless_empty<matmul_onednn>});
}

}  // namespace filigree
