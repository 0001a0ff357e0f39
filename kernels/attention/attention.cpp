#include "kernels/attention/attention.hpp"

#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/key_tiles.hpp"
#include "kernels/registry.hpp"

namespace filigree {

namespace {

void check_shape(const AttentionShape& s) {
  FILIGREE_CHECK(s.batch >= 0 && s.query_length >= 0 && s.key_length >= 0, "negative size");
  FILIGREE_CHECK(s.kv_heads > 0 && s.query_heads > 0 && s.query_heads % s.kv_heads == 0,
                 s.query_heads, " query heads over ", s.kv_heads, " key/value heads");
  FILIGREE_CHECK(s.head_dim > 0, "head_dim is ", s.head_dim);
}

void check_tensor(const Tensor& tensor, const Shape& shape, DType dtype, const char* name) {
  FILIGREE_CHECK_EQ(tensor.shape(), shape, "shape of ", name);
  FILIGREE_CHECK(tensor.dtype() == dtype, name, " is ", name_of(tensor.dtype()), ", expected ",
                 name_of(dtype));
}

struct Shapes {
  Shape query, key, lse;
};

Shapes shapes_of(const AttentionShape& s) {
  return {Shape{s.batch * s.query_length, s.query_heads * s.head_dim},
          Shape{s.batch * s.key_length, s.kv_heads * s.head_dim},
          Shape{s.batch, s.query_heads, s.query_length}};
}

Work work_of(const AttentionShape& s, std::int64_t flops_per_pair, std::int64_t bytes) {
  const std::int64_t flops = flops_per_pair * allowed_pairs(s) * s.batch * s.query_heads;
  return {flops, flops, bytes};
}

std::optional<std::string> supported_dtype(const Tensor& q) {
  switch (q.dtype()) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
      return std::nullopt;
    default:
      return str("computes in f64, f32 and bf16, not in ", name_of(q.dtype()));
  }
}

template <class Op>
std::optional<std::string> reject_dtype(const typename Op::Arguments& arguments,
                                        const ExecutionContext&) {
  return supported_dtype(arguments.q_THK);
}

}  // namespace

std::int64_t allowed_pairs(const AttentionShape& shape) {
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < shape.query_length; ++i) pairs += visible_keys(shape, i);
  return pairs;
}

// Two products of 2 K operations per pair: scores and values.
Work AttentionForward::work(const Arguments& a) {
  return work_of(
      a.shape, 4 * a.shape.head_dim,
      a.q_THK.bytes() + a.k_TGK.bytes() + a.v_TGK.bytes() + a.o_THK.bytes() + a.lse_BHS.bytes());
}

// Five: scores again, dp, dv, dq, dk.
Work AttentionBackward::work(const Arguments& a) {
  return work_of(a.shape, 10 * a.shape.head_dim,
                 2 * (a.q_THK.bytes() + a.k_TGK.bytes() + a.v_TGK.bytes() + a.o_THK.bytes()) +
                     a.lse_BHS.bytes());
}

void check_arguments(const AttentionForward::Arguments& a) {
  check_shape(a.shape);
  const Shapes shapes = shapes_of(a.shape);
  const DType dtype = a.q_THK.dtype();
  check_tensor(a.q_THK, shapes.query, dtype, "q_THK");
  check_tensor(a.k_TGK, shapes.key, dtype, "k_TGK");
  check_tensor(a.v_TGK, shapes.key, dtype, "v_TGK");
  check_tensor(a.o_THK, shapes.query, dtype, "o_THK");
  check_tensor(a.lse_BHS, shapes.lse, accumulation_dtype(dtype), "lse_BHS");
}

void check_arguments(const AttentionBackward::Arguments& a) {
  check_arguments(
      AttentionForward::Arguments{a.shape, a.q_THK, a.k_TGK, a.v_TGK, a.o_THK, a.lse_BHS});
  const Shapes shapes = shapes_of(a.shape);
  const DType dtype = a.q_THK.dtype();
  check_tensor(a.do_THK, shapes.query, dtype, "do_THK");
  check_tensor(a.dq_THK, shapes.query, dtype, "dq_THK");
  check_tensor(a.dk_TGK, shapes.key, dtype, "dk_TGK");
  check_tensor(a.dv_TGK, shapes.key, dtype, "dv_TGK");
}

void register_attention(KernelTable& table) {
  constexpr DeviceKind cpu = DeviceKind::cpu;
  constexpr auto forward = reject_dtype<AttentionForward>;
  table.add<AttentionForward>({"reference", cpu, 0, forward, attention_forward_reference});
  table.add<AttentionForward>({"portable", cpu, 5, forward, attention_forward_portable});
  table.add<AttentionForward>({"cpu", cpu, 10, forward, attention_forward_cpu});
  constexpr auto backward = reject_dtype<AttentionBackward>;
  table.add<AttentionBackward>({"reference", cpu, 0, backward, attention_backward_reference});
  table.add<AttentionBackward>({"portable", cpu, 5, backward, attention_backward_portable});
  table.add<AttentionBackward>({"cpu", cpu, 10, backward, attention_backward_cpu});
}

}  // namespace filigree
