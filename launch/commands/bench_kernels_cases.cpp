// The cases of `filigree bench kernels`: every op at a shape of training, large enough to leave the
// caches where memory is what limits it.
#include <cmath>

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/fill.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/loss/token_losses.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/norm/rms_norm.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/random/normal_fill.hpp"
#include "kernels/rope/rope.hpp"
#include "launch/commands/bench_kernels_suite.hpp"

namespace filigree {
namespace {

void add_matmul(KernelSuite& suite, std::int64_t m, std::int64_t n, std::int64_t k,
                bool transpose_b, DType dtype) {
  suite.add<Matmul>(
      str(m, "x", n, "x", k, transpose_b ? " b^T" : ""), dtype, false,
      [=] {
        return Matmul::Arguments{some_values({m, k}, dtype),
                                 some_values(transpose_b ? Shape{n, k} : Shape{k, n}, dtype),
                                 Tensor::zeros({m, n}, dtype), false, transpose_b};
      },
      [](const Matmul::Arguments& a) { return std::vector{a.c}; });
}

AttentionForward::Arguments attention_arguments(const AttentionShape& s, DType dtype) {
  const Shape query{s.batch * s.query_length, s.query_heads * s.head_dim};
  const Shape key{s.batch * s.key_length, s.kv_heads * s.head_dim};
  return {s,
          some_values(query, dtype),
          some_values(key, dtype),
          some_values(key, dtype),
          Tensor::zeros(query, dtype),
          Tensor::zeros({s.batch, s.query_heads, s.query_length}, accumulation_dtype(dtype))};
}

void add_attention(KernelSuite& suite, std::int64_t queries, std::int64_t keys, std::int64_t heads,
                   std::int64_t kv_heads, DType dtype) {
  const std::int64_t dim = 64;
  const AttentionShape s{
      1, queries, keys, heads, kv_heads, dim, keys - queries, true, 1 / std::sqrt(double(dim))};
  const std::string shape = str(queries, " of ", keys, ", ", heads, "/", kv_heads, " heads of ",
                                dim, queries < keys ? " (decode)" : "");
  suite.add<AttentionForward>(
      shape, dtype, queries < keys, [=] { return attention_arguments(s, dtype); },
      [](const AttentionForward::Arguments& a) {
        return std::vector{a.o_THK, a.lse_BHS};
      });
  if (queries < keys) return;
  suite.add<CountPairs>(
      shape, dtype, true,
      [=] {
        return CountPairs::Arguments{s, {}, Tensor::zeros({2}, DType::i64)};
      },
      [](const CountPairs::Arguments&) { return std::vector<Tensor>{}; });
  suite.add<AttentionBackward>(
      shape, dtype, false,
      [=] {
        const auto f = attention_arguments(s, dtype);
        ExecutionContext context;
        dispatch<AttentionForward>(f, context);
        return AttentionBackward::Arguments{s,
                                            f.q_THK,
                                            f.k_TGK,
                                            f.v_TGK,
                                            f.o_THK,
                                            f.lse_BHS,
                                            some_values(f.q_THK.shape(), dtype),
                                            Tensor::zeros(f.q_THK.shape(), dtype),
                                            Tensor::zeros(f.k_TGK.shape(), dtype),
                                            Tensor::zeros(f.k_TGK.shape(), dtype)};
      },
      [](const AttentionBackward::Arguments& a) {
        return std::vector{a.dq_THK, a.dk_TGK, a.dv_TGK};
      });
}

void add_rms_norm(KernelSuite& suite, DType dtype) {
  const Shape shape{8192, 1024};
  const DType acc = accumulation_dtype(dtype);
  suite.add<RmsNormForward>(
      "8192x1024", dtype, true,
      [=] {
        return RmsNormForward::Arguments{some_values(shape, dtype), some_values({1024}, dtype),
                                         Tensor::zeros(shape, dtype), Tensor::zeros({8192}, acc)};
      },
      [](const RmsNormForward::Arguments& a) {
        return std::vector{a.y_TD, a.r_T};
      });
  suite.add<RmsNormBackward>(
      "8192x1024", dtype, true,
      [=] {
        const Tensor r = Tensor::empty({8192}, acc);
        r.copy_from(some_values({8192}, acc));
        return RmsNormBackward::Arguments{
            some_values(shape, dtype), some_values({1024}, dtype),  r,
            some_values(shape, dtype), Tensor::zeros(shape, dtype), Tensor::zeros({1024}, acc)};
      },
      [](const RmsNormBackward::Arguments& a) {
        return std::vector{a.dx_TD, a.dw_D};
      });
}

void add_swiglu(KernelSuite& suite, DType dtype) {
  const Shape shape{4096, 2048};
  suite.add<SwigluForward>(
      "4096x2048", dtype, true,
      [=] {
        return SwigluForward::Arguments{some_values(shape, dtype), some_values(shape, dtype),
                                        Tensor::zeros(shape, dtype)};
      },
      [](const SwigluForward::Arguments& a) { return std::vector{a.y_TF}; });
  suite.add<SwigluBackward>(
      "4096x2048", dtype, true,
      [=] {
        return SwigluBackward::Arguments{some_values(shape, dtype), some_values(shape, dtype),
                                         some_values(shape, dtype), Tensor::zeros(shape, dtype),
                                         Tensor::zeros(shape, dtype)};
      },
      [](const SwigluBackward::Arguments& a) {
        return std::vector{a.dgate_TF, a.dup_TF};
      });
}

void add_rope(KernelSuite& suite, DType dtype) {
  const Shape shape{8192, 1024};
  suite.add<Rope>(
      "8192, 16 heads of 64", dtype, true,
      [=] {
        return Rope::Arguments{some_values(shape, dtype), some_ids(8192, 8192),
                               Tensor::zeros(shape, dtype), 64};
      },
      [](const Rope::Arguments& a) { return std::vector{a.y_THK}; });
}

void add_embedding(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 8192, rows = 8192, width = 1024;
  const DType acc = accumulation_dtype(dtype);
  suite.add<EmbeddingForward>(
      "8192 of 8192x1024", dtype, true,
      [=] {
        return EmbeddingForward::Arguments{some_ids(tokens, rows),
                                           some_values({rows, width}, dtype),
                                           Tensor::zeros({tokens, width}, dtype)};
      },
      [](const EmbeddingForward::Arguments& a) { return std::vector{a.y_TD}; });
  suite.add<EmbeddingBackward>(
      "8192 of 8192x1024", dtype, true,
      [=] {
        return EmbeddingBackward::Arguments{some_ids(tokens, rows),
                                            some_values({tokens, width}, dtype),
                                            Tensor::zeros({rows, width}, acc)};
      },
      [](const EmbeddingBackward::Arguments& a) { return std::vector{a.dw_VD}; });
}

void add_cross_entropy(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 1024, vocabulary = 8192;
  const DType acc = accumulation_dtype(dtype);
  suite.add<CrossEntropyStatistics>(
      "1024x8192", dtype, true,
      [=] {
        return CrossEntropyStatistics::Arguments{
            some_values({tokens, vocabulary}, dtype), some_ids(tokens, vocabulary),
            Tensor::zeros({tokens}, acc), Tensor::zeros({tokens}, acc),
            Tensor::zeros({tokens}, acc)};
      },
      [](const CrossEntropyStatistics::Arguments& a) {
        return std::vector{a.max_T, a.sum_T, a.target_T};
      });
  suite.add<CrossEntropyGradient>(
      "1024x8192", dtype, true,
      [=] {
        return CrossEntropyGradient::Arguments{
            some_values({tokens, vocabulary}, dtype), some_ids(tokens, vocabulary),
            some_values({tokens}, acc), some_values({tokens}, acc)};
      },
      // In place: the next call starts from this one's result, so this must be looked at before.
      [](const CrossEntropyGradient::Arguments& a) { return std::vector{a.logits_TV.clone()}; });
}

// What is left of the loss once the ranks that share the vocabulary have exchanged their sums.
void add_token_losses(KernelSuite& suite) {
  const Shape tokens{1 << 20};
  const DType dtype = DType::f32;
  suite.add<RescaleSums>(
      "1Mi tokens", dtype, true,
      [=] {
        return RescaleSums::Arguments{some_values(tokens, dtype), some_values(tokens, dtype),
                                      Tensor::zeros(tokens, dtype)};
      },
      [](const RescaleSums::Arguments& a) { return std::vector{a.sum_T}; });
  suite.add<TokenLosses>(
      "1Mi tokens", dtype, true,
      [=] {
        const Tensor sums = some_values(tokens, dtype);
        for (float& sum : sums.span<float>()) sum = 1 + sum * sum;
        return TokenLosses::Arguments{some_values(tokens, dtype),   sums,
                                      some_values(tokens, dtype),   some_ids(tokens[0], 8192),
                                      Tensor::zeros(tokens, dtype), Tensor::zeros(tokens, dtype),
                                      Tensor::zeros({}, dtype)};
      },
      [](const TokenLosses::Arguments& a) {
        return std::vector{a.lse_T, a.log_p_T, a.loss};
      });
  suite.add<Fill>(
      "1Mi", dtype, true,
      [=] {
        return Fill::Arguments{some_values({}, dtype), Tensor::zeros(tokens, dtype)};
      },
      [](const Fill::Arguments& a) { return std::vector{a.y}; });
}

void add_adamw(KernelSuite& suite) {
  const Shape shape{8 << 20};
  suite.add<AdamW>(
      "8388608 + bf16 copy", DType::f32, true,
      [=] {
        AdamW::Arguments a;
        a.w_N = some_values(shape, DType::f32), a.g_N = some_values(shape, DType::f32);
        a.m_N = Tensor::zeros(shape, DType::f32), a.v_N = Tensor::zeros(shape, DType::f32);
        a.compute_N = Tensor::zeros(shape, DType::bf16);
        a.rate = 1e-3, a.decay = 0.1;
        return a;
      },
      [](const AdamW::Arguments& a) {
        return std::vector{a.w_N.clone(), a.m_N.clone(), a.v_N.clone(), a.compute_N.clone()};
      });
}

void add_elementwise(KernelSuite& suite, DType dtype) {
  const Shape shape{8192, 1024};
  const auto tensor = [=] { return some_values(shape, dtype); };
  suite.add<Add>(
      "8192x1024", dtype, true,
      [=] {
        return Add::Arguments{tensor(), tensor(), tensor()};
      },
      [](const Add::Arguments& a) { return std::vector{a.y}; });
  suite.add<Scale>(
      "8192x1024", dtype, true,
      [=] {
        return Scale::Arguments{tensor(), tensor(), 0.5};
      },
      [](const Scale::Arguments& a) { return std::vector{a.y}; });
  suite.add<Dropout>(
      "8192x1024", dtype, true,
      [=] {
        Dropout::Arguments a;
        a.x_TD = tensor(), a.y_TD = tensor(), a.rate = 0.1;
        return a;
      },
      [](const Dropout::Arguments& a) { return std::vector{a.y_TD}; });
  if (dtype != DType::f32) return;
  suite.add<Dot>(
      "8192x1024", dtype, true,
      [=] {
        return Dot::Arguments{tensor(), tensor(), Tensor::zeros({1}, DType::f64)};
      },
      [](const Dot::Arguments& a) { return std::vector{a.sum.clone()}; });
  suite.add<SumSquares>(
      "8192x1024", dtype, true,
      [=] {
        return SumSquares::Arguments{tensor(), Tensor::zeros({1}, DType::f64)};
      },
      [](const SumSquares::Arguments& a) { return std::vector{a.sum.clone()}; });
  suite.add<NormalFill>(
      "1024x1024", dtype, true,
      [=] {
        NormalFill::Arguments a;
        a.x_RC = Tensor::zeros({1024, 1024}, dtype), a.global_columns = 1024;
        return a;
      },
      [](const NormalFill::Arguments& a) { return std::vector{a.x_RC}; });
}

void add_sigmoid_gate(KernelSuite& suite, DType dtype) {
  const Shape shape{4096, 2048};
  const auto tensor = [=] { return some_values(shape, dtype); };
  suite.add<SigmoidGateForward>(
      "4096x2048", dtype, true,
      [=] {
        return SigmoidGateForward::Arguments{tensor(), tensor(), tensor()};
      },
      [](const SigmoidGateForward::Arguments& a) { return std::vector{a.y_TF}; });
  suite.add<SigmoidGateBackward>(
      "4096x2048", dtype, true,
      [=] {
        return SigmoidGateBackward::Arguments{tensor(), tensor(), tensor(), tensor(), tensor()};
      },
      [](const SigmoidGateBackward::Arguments& a) {
        return std::vector{a.dx_TF, a.dgate_TF};
      });
}

void add_all_cases(KernelSuite& suite) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_matmul(suite, 1024, 1024, 256, true, dtype);
    add_matmul(suite, 256, 1024, 1024, false, dtype);
  }
  add_matmul(suite, 512, 512, 256, true, DType::f64);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    add_attention(suite, 1024, 1024, 4, 2, dtype);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_attention(suite, 1, 8192, 8, 8, dtype);
    add_rms_norm(suite, dtype);
    add_swiglu(suite, dtype);
    add_rope(suite, dtype);
    add_embedding(suite, dtype);
    add_cross_entropy(suite, dtype);
  }
  add_token_losses(suite);
  add_adamw(suite);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_elementwise(suite, dtype);
    add_sigmoid_gate(suite, dtype);
    add_gate_cases(suite, dtype);
  }
}

}  // namespace

std::vector<KernelMeasurement> measure_kernels(const MachinePeaks& peaks, int threads,
                                               const std::string& filter) {
  KernelSuite suite(peaks, threads, filter);
  add_all_cases(suite);
  return std::move(suite.rows);
}

std::set<std::string> measured_ops() {
  KernelSuite suite;
  add_all_cases(suite);
  return std::move(suite.ops);
}

}  // namespace filigree
