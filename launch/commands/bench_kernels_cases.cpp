// The cases of `filigree bench kernels`: every op at a shape of training, large enough to leave the
// caches where memory is what limits it.
#include <array>
#include <cmath>

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/fill.hpp"
#include "kernels/elementwise/scalars.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/loss/token_losses.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/norm/rms_norm.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"
#include "kernels/random/normal_fill.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/sampling/sample_token.hpp"
#include "launch/commands/bench_kernels_suite.hpp"

namespace filigree {
namespace {

void add_matmul(KernelSuite& suite, std::int64_t m, std::int64_t n, std::int64_t k,
                bool transpose_b, DType dtype, bool biased = false) {
  suite.add<Matmul>(
      str(m, "x", n, "x", k, transpose_b ? " b^T" : "", biased ? " + bias" : ""), dtype, false,
      [=](const CaseTensors& t) {
        return Matmul::Arguments{.a = t.values({m, k}, dtype),
                                 .b = t.values(transpose_b ? Shape{n, k} : Shape{k, n}, dtype),
                                 .c = t.zeros({m, n}, dtype),
                                 .transpose_b = transpose_b,
                                 .bias = biased ? t.values({n}, dtype) : Tensor()};
      },
      [](const Matmul::Arguments& a) { return std::vector{a.c}; });
}

AttentionForward::Arguments attention_arguments(const CaseTensors& t, const AttentionShape& s,
                                                DType dtype) {
  const Shape query{s.batch * s.query_length, s.query_heads * s.head_dim};
  const Shape key{s.batch * s.key_length, s.kv_heads * s.head_dim};
  return {s,
          t.values(query, dtype),
          t.values(key, dtype),
          t.values(key, dtype),
          t.zeros(query, dtype),
          t.zeros({s.batch, s.query_heads, s.query_length}, accumulation_dtype(dtype))};
}

void add_attention(KernelSuite& suite, std::int64_t queries, std::int64_t keys, std::int64_t heads,
                   std::int64_t kv_heads, DType dtype) {
  const std::int64_t dim = 64;
  const AttentionShape s{
      1, queries, keys, heads, kv_heads, dim, keys - queries, true, 1 / std::sqrt(double(dim))};
  const std::string shape = str(queries, " of ", keys, ", ", heads, "/", kv_heads, " heads of ",
                                dim, queries < keys ? " (decode)" : "");
  suite.add<AttentionForward>(
      shape, dtype, queries < keys,
      [=](const CaseTensors& t) { return attention_arguments(t, s, dtype); },
      [](const AttentionForward::Arguments& a) {
        return std::vector{a.o_THK, a.lse_BHS};
      });
  if (queries < keys) return;
  suite.add<CountPairs>(
      shape, dtype, true,
      [=](const CaseTensors& t) {
        return CountPairs::Arguments{s, {}, t.zeros({2}, DType::i64)};
      },
      [](const CountPairs::Arguments&) { return std::vector<Tensor>{}; });
  suite.add<AttentionBackward>(
      shape, dtype, false,
      [=](const CaseTensors& t) {
        ExecutionContext host;
        const auto f = attention_arguments(CaseTensors(host), s, dtype);
        dispatch<AttentionForward>(f, host);
        const Shape query = f.q_THK.shape(), key = f.k_TGK.shape();
        return AttentionBackward::Arguments{s,
                                            t.given(f.q_THK),
                                            t.given(f.k_TGK),
                                            t.given(f.v_TGK),
                                            t.given(f.o_THK),
                                            t.given(f.lse_BHS),
                                            t.values(query, dtype),
                                            t.zeros(query, dtype),
                                            t.zeros(key, dtype),
                                            t.zeros(key, dtype)};
      },
      [](const AttentionBackward::Arguments& a) {
        return std::vector{a.dq_THK, a.dk_TGK, a.dv_TGK};
      });
}

void add_rms_norm(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 8192 * suite.scale();
  const Shape shape{tokens, 1024};
  const std::string title = str(tokens, "x1024");
  const DType acc = accumulation_dtype(dtype);
  suite.add<RmsNormForward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return RmsNormForward::Arguments{t.values(shape, dtype), t.values({1024}, dtype),
                                         t.zeros(shape, dtype), t.zeros({tokens}, acc)};
      },
      [](const RmsNormForward::Arguments& a) {
        return std::vector{a.y_TD, a.r_T};
      });
  suite.add<RmsNormBackward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        const Tensor r = t.values({tokens}, acc);
        return RmsNormBackward::Arguments{
            t.values(shape, dtype), t.values({1024}, dtype), r,
            t.values(shape, dtype), t.zeros(shape, dtype),   t.zeros({1024}, acc)};
      },
      [](const RmsNormBackward::Arguments& a) {
        return std::vector{a.dx_TD, a.dw_D};
      });
}

void add_swiglu(KernelSuite& suite, DType dtype) {
  const Shape shape{4096 * suite.scale(), 2048};
  const std::string title = str(shape[0], "x2048");
  suite.add<SwigluForward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return SwigluForward::Arguments{t.values(shape, dtype), t.values(shape, dtype),
                                        t.zeros(shape, dtype)};
      },
      [](const SwigluForward::Arguments& a) { return std::vector{a.y_TF}; });
  suite.add<SwigluBackward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return SwigluBackward::Arguments{t.values(shape, dtype), t.values(shape, dtype),
                                         t.values(shape, dtype), t.zeros(shape, dtype),
                                         t.zeros(shape, dtype)};
      },
      [](const SwigluBackward::Arguments& a) {
        return std::vector{a.dgate_TF, a.dup_TF};
      });
}

void add_rope(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 8192 * suite.scale();
  const Shape shape{tokens, 1024};
  suite.add<Rope>(
      str(tokens, ", 16 heads of 64"), dtype, true,
      [=](const CaseTensors& t) {
        return Rope::Arguments{t.values(shape, dtype), t.ids(tokens, 8192), t.zeros(shape, dtype),
                               64};
      },
      [](const Rope::Arguments& a) { return std::vector{a.y_THK}; });
}

void add_embedding(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 8192 * suite.scale(), rows = 8192, width = 1024;
  const std::string title = str(tokens, " of 8192x1024");
  const DType acc = accumulation_dtype(dtype);
  suite.add<EmbeddingForward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return EmbeddingForward::Arguments{t.ids(tokens, rows), t.values({rows, width}, dtype),
                                           t.zeros({tokens, width}, dtype)};
      },
      [](const EmbeddingForward::Arguments& a) { return std::vector{a.y_TD}; });
  suite.add<EmbeddingBackward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return EmbeddingBackward::Arguments{t.ids(tokens, rows), t.values({tokens, width}, dtype),
                                            t.zeros({rows, width}, acc)};
      },
      [](const EmbeddingBackward::Arguments& a) { return std::vector{a.dw_VD}; });
}

void add_cross_entropy(KernelSuite& suite, DType dtype) {
  const std::int64_t tokens = 1024 * suite.scale(), vocabulary = 8192;
  const std::string title = str(tokens, "x8192");
  const DType acc = accumulation_dtype(dtype);
  suite.add<CrossEntropyStatistics>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return CrossEntropyStatistics::Arguments{t.values({tokens, vocabulary}, dtype),
                                                 t.ids(tokens, vocabulary), t.zeros({tokens}, acc),
                                                 t.zeros({tokens}, acc), t.zeros({tokens}, acc)};
      },
      [](const CrossEntropyStatistics::Arguments& a) {
        return std::vector{a.max_T, a.sum_T, a.target_T};
      });
  suite.add<CrossEntropyGradient>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return CrossEntropyGradient::Arguments{t.values({tokens, vocabulary}, dtype),
                                               t.ids(tokens, vocabulary), t.values({tokens}, acc),
                                               t.values({tokens}, acc)};
      },
      // In place: the next call starts from this one's result, so this must be looked at before.
      [](const CrossEntropyGradient::Arguments& a) { return std::vector{a.logits_TV}; });
}

// What is left of the loss once the ranks that share the vocabulary have exchanged their sums.
void add_token_losses(KernelSuite& suite) {
  const Shape tokens{suite.scale() << 20};
  const DType dtype = DType::f32;
  suite.add<RescaleSums>(
      str(suite.scale(), "Mi tokens"), dtype, true,
      [=](const CaseTensors& t) {
        return RescaleSums::Arguments{t.values(tokens, dtype), t.values(tokens, dtype),
                                      t.zeros(tokens, dtype)};
      },
      [](const RescaleSums::Arguments& a) { return std::vector{a.sum_T}; });
  suite.add<TokenLosses>(
      str(suite.scale(), "Mi tokens"), dtype, true,
      [=](const CaseTensors& t) {
        const Tensor sums = some_values(tokens, dtype);
        for (float& sum : sums.span<float>()) sum = 1 + sum * sum;
        return TokenLosses::Arguments{t.values(tokens, dtype), t.given(sums),
                                      t.values(tokens, dtype), t.ids(tokens[0], 8192),
                                      t.zeros(tokens, dtype),  t.zeros(tokens, dtype),
                                      t.zeros({}, dtype)};
      },
      [](const TokenLosses::Arguments& a) {
        return std::vector{a.lse_T, a.log_p_T, a.loss};
      });
  suite.add<Fill>(
      str(suite.scale(), "Mi"), dtype, true,
      [=](const CaseTensors& t) {
        return Fill::Arguments{t.values({}, dtype), t.zeros(tokens, dtype)};
      },
      [](const Fill::Arguments& a) { return std::vector{a.y}; });
}

void add_sample_token(KernelSuite& suite) {
  const Shape shape{50257};
  suite.add<SampleToken>(
      str(shape[0], ", top-k 50, top-p 0.95"), DType::f32, true,
      [=](const CaseTensors& t) {
        SampleToken::Arguments a;
        a.logits_V = t.values(shape, DType::f32);
        a.options.top_k = 50, a.options.top_p = 0.95;
        a.token = t.ids(1, 1);
        return a;
      },
      [](const SampleToken::Arguments& a) { return std::vector{a.token}; });
}

void add_adamw(KernelSuite& suite) {
  const Shape shape{8 * suite.scale() << 20};
  suite.add<AdamW>(
      str(shape[0], " + bf16 copy"), DType::f32, true,
      [=](const CaseTensors& t) {
        AdamW::Arguments a;
        a.w_N = t.values(shape, DType::f32), a.g_N = t.values(shape, DType::f32);
        a.m_N = t.zeros(shape, DType::f32), a.v_N = t.zeros(shape, DType::f32);
        a.compute_N = t.zeros(shape, DType::bf16);
        a.factors =
            t.given(Tensor::from<double>({kUpdateFactors}, std::array{1e-3, 1.0, 0.1, 0.05}));
        a.decay = 0.1;
        return a;
      },
      [](const AdamW::Arguments& a) {
        return std::vector{a.w_N, a.m_N, a.v_N, a.compute_N};
      });
  suite.add<UpdateFactors>(
      "2 groups", DType::f32, true,
      [](const CaseTensors& t) {
        const auto scalars = [&](std::int64_t count) { return t.zeros({count}, DType::f64); };
        return UpdateFactors::Arguments{scalars(1), scalars(3),
                                        scalars(1), t.zeros({1}, DType::i64),
                                        scalars(2), scalars(2 * kUpdateFactors)};
      },
      [](const UpdateFactors::Arguments& a) {
        return std::vector{a.norms, a.factors};
      });
}

void add_elementwise(KernelSuite& suite, DType dtype) {
  const std::int64_t rows = 8192 * suite.scale();
  const Shape shape{rows, 1024};
  const std::string title = str(rows, "x1024");
  const auto tensor = [=](const CaseTensors& t) { return t.values(shape, dtype); };
  suite.add<Add>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return Add::Arguments{tensor(t), tensor(t), tensor(t)};
      },
      [](const Add::Arguments& a) { return std::vector{a.y}; });
  suite.add<Scale>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return Scale::Arguments{tensor(t), tensor(t), 0.5};
      },
      [](const Scale::Arguments& a) { return std::vector{a.y}; });
  suite.add<Dropout>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        Dropout::Arguments a;
        a.x_TD = tensor(t), a.y_TD = tensor(t), a.rate = 0.1;
        a.stream = t.zeros({1}, DType::i64);
        return a;
      },
      [](const Dropout::Arguments& a) { return std::vector{a.y_TD}; });
  if (dtype != DType::f32) return;
  const auto number = [](const CaseTensors& t) {
    return t.given(Tensor::from<double>({1}, std::array{2.0}));
  };
  suite.add<Divide>(
      "1", dtype, true,
      [=](const CaseTensors& t) {
        return Divide::Arguments{number(t), number(t), number(t)};
      },
      [](const Divide::Arguments& a) { return std::vector{a.y}; });
  suite.add<SquareRoot>(
      "1", dtype, true,
      [=](const CaseTensors& t) {
        return SquareRoot::Arguments{number(t), number(t)};
      },
      [](const SquareRoot::Arguments& a) { return std::vector{a.y}; });
  suite.add<Dot>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return Dot::Arguments{tensor(t), tensor(t), t.zeros({1}, DType::f64)};
      },
      [](const Dot::Arguments& a) { return std::vector{a.sum}; });
  suite.add<SumSquares>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return SumSquares::Arguments{tensor(t), t.zeros({1}, DType::f64)};
      },
      [](const SumSquares::Arguments& a) { return std::vector{a.sum}; });
  suite.add<NormalFill>(
      str(rows / 8, "x1024"), dtype, true,
      [=](const CaseTensors& t) {
        NormalFill::Arguments a;
        a.x_RC = t.zeros({rows / 8, 1024}, dtype), a.global_columns = 1024;
        return a;
      },
      [](const NormalFill::Arguments& a) { return std::vector{a.x_RC}; });
}

void add_sigmoid_gate(KernelSuite& suite, DType dtype) {
  const Shape shape{4096 * suite.scale(), 2048};
  const std::string title = str(shape[0], "x2048");
  const auto tensor = [=](const CaseTensors& t) { return t.values(shape, dtype); };
  suite.add<SigmoidGateForward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return SigmoidGateForward::Arguments{tensor(t), tensor(t), tensor(t)};
      },
      [](const SigmoidGateForward::Arguments& a) { return std::vector{a.y_TF}; });
  suite.add<SigmoidGateBackward>(
      title, dtype, true,
      [=](const CaseTensors& t) {
        return SigmoidGateBackward::Arguments{tensor(t), tensor(t), tensor(t), tensor(t),
                                              tensor(t)};
      },
      [](const SigmoidGateBackward::Arguments& a) {
        return std::vector{a.dx_TF, a.dgate_TF};
      });
}

void add_all_cases(KernelSuite& suite) {
  const std::int64_t scale = suite.scale();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const bool biased : {false, true})
      add_matmul(suite, 1024 * scale, 1024 * scale, 256 * scale, true, dtype, biased);
    add_matmul(suite, 256 * scale, 1024 * scale, 1024 * scale, false, dtype);
  }
  add_matmul(suite, 512, 512, 256, true, DType::f64);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    add_attention(suite, 1024, 1024, 4 * scale, 2 * scale, dtype);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_attention(suite, 1, 8192, 8 * scale, 8 * scale, dtype);
    add_rms_norm(suite, dtype);
    add_swiglu(suite, dtype);
    add_rope(suite, dtype);
    add_embedding(suite, dtype);
    add_cross_entropy(suite, dtype);
  }
  add_token_losses(suite);
  add_adamw(suite);
  add_sample_token(suite);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_elementwise(suite, dtype);
    add_sigmoid_gate(suite, dtype);
    add_gate_cases(suite, dtype);
  }
}

}  // namespace

KernelPeaks::KernelPeaks(const MachinePeaks& peaks)
    : memory_gbs(peaks.memory_gbs),
      f64_gflops(peaks.isas.back().f64_gflops),
      f32_gflops(peaks.isas.back().f32_gflops),
      // bf16 products run on instructions of their own; everything else in bf16 computes in f32.
      bf16_gflops(f32_gflops),
      bf16_matmul_gflops(peaks.bf16_gemm_gflops > 0 ? peaks.bf16_gemm_gflops : f32_gflops) {}

KernelPeaks::KernelPeaks(const DevicePeaks& peaks)
    : memory_gbs(peaks.copy_gbs),
      f32_gflops(peaks.f32_gemm_gflops),
      bf16_gflops(peaks.bf16_gemm_gflops),
      bf16_matmul_gflops(peaks.bf16_gemm_gflops) {}

std::vector<KernelMeasurement> measure_kernels(const KernelPeaks& peaks,
                                               const ExecutionContext& context,
                                               const std::string& filter) {
  KernelSuite suite(peaks, context, filter);
  add_all_cases(suite);
  return std::move(suite.rows);
}

std::set<std::string> measured_ops() {
  KernelSuite suite;
  add_all_cases(suite);
  return std::move(suite.ops);
}

}  // namespace filigree
