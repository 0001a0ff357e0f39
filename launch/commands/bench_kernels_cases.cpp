// The cases of `filigree bench kernels`: every op at a shape of training, large enough to leave the
// caches where memory is what limits it.
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/activation/swiglu.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/loss/cross_entropy.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/norm/rms_norm.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/rope/rope.hpp"
#include "launch/commands/bench_kernels.hpp"
#include "launch/commands/bench_timing.hpp"

namespace filigree {

namespace {

// Values in [-1, 1) from a multiplicative hash of the index: a benchmark needs plain numbers
// quickly, not good ones.
Tensor some_values(const Shape& shape, DType dtype) {
  const Tensor values = Tensor::empty(shape, DType::f32);
  float* const data = values.data<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i)
    data[i] = float((std::uint32_t(i) * 2654435761u) >> 8) / float(1 << 23) - 1.0f;
  return dtype == DType::f32 ? values : values.to(dtype);
}

Tensor some_ids(std::int64_t count, std::int64_t limit) {
  const Tensor ids = Tensor::empty({count}, DType::i32);
  for (std::int64_t i = 0; i < count; ++i)
    ids.data<std::int32_t>()[i] = std::int32_t((std::uint32_t(i) * 2654435761u >> 4) % limit);
  return ids;
}

// Largest difference over largest value, of the worst of the outputs. NaN where one is a number and
// the other is not.
double relative_error(const std::vector<Tensor>& got, const std::vector<Tensor>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Tensor a = got[i].to(DType::f64), b = expected[i].to(DType::f64);
    double difference = 0, size = 0;
    for (std::int64_t e = 0; e < a.numel(); ++e) {
      const double x = a.data<double>()[e], y = b.data<double>()[e];
      if (x == y) continue;
      if (!std::isfinite(x - y)) return std::numeric_limits<double>::quiet_NaN();
      difference = std::max(difference, std::abs(x - y));
    }
    for (const double value : b.span<double>())
      if (std::isfinite(value)) size = std::max(size, std::abs(value));
    worst = std::max(worst, size == 0 ? difference : difference / size);
  }
  return worst;
}

class Bench {
 public:
  Bench(const MachinePeaks& peaks, int threads, std::string filter)
      : peaks_(peaks), filter_(std::move(filter)) {
    context_.num_threads = threads;
  }

  // build makes the same arguments every time; outputs names the tensors that are compared.
  template <class Op>
  void add(const std::string& shape, DType dtype, bool memory_bound,
           const std::function<typename Op::Arguments()>& build,
           const std::function<std::vector<Tensor>(const typename Op::Arguments&)>& outputs) {
    const std::string title = str(Op::name, ' ', shape, ' ', name_of(dtype));
    if (title.find(filter_) == std::string::npos) return;
    const typename Op::Arguments arguments = build();
    const std::string_view picked = select_implementation<Op>(arguments, context_).name;
    std::vector<Tensor> expected;
    for (const Implementation<Op>& candidate : kernel_table().implementations<Op>()) {
      if (candidate.device != context_.device.kind) continue;
      KernelMeasurement row;
      row.op = Op::name, row.shape = shape, row.implementation = candidate.name;
      row.dtype = dtype, row.memory_bound = memory_bound;
      row.picked = candidate.name == picked;
      if (const auto reason = candidate.reject(arguments, context_)) {
        row.rejected = *reason;
      } else {
        const typename Op::Arguments fresh = build();
        const double first = seconds_of([&] { candidate.run(fresh, context_); });
        const bool is_reference = candidate.name == "reference";
        if (is_reference)
          expected = outputs(fresh);
        else if (!expected.empty())
          row.error = relative_error(outputs(fresh), expected);
        // The reference is timed by its one call: it is slow, and only the scale of its time is of
        // interest.
        rate(row, Op::work(arguments),
             is_reference ? first : fastest_call(0.08, [&] { candidate.run(fresh, context_); }));
      }
      rows.push_back(std::move(row));
    }
  }

  std::vector<KernelMeasurement> rows;

 private:
  void rate(KernelMeasurement& row, const Work& work, double seconds) const {
    row.seconds = seconds;
    row.gflops = double(work.flops) / seconds * 1e-9;
    row.gbs = double(work.bytes) / seconds * 1e-9;
    row.share_of_peak =
        row.memory_bound ? row.gbs / peaks_.memory_gbs : row.gflops / compute_peak(row);
  }
  // bf16 products run on instructions of their own; everything else in bf16 computes in f32.
  double compute_peak(const KernelMeasurement& row) const {
    if (row.dtype == DType::f64) return peaks_.isas.back().f64_gflops;
    const bool bf16_units =
        row.dtype == DType::bf16 && row.op == Matmul::name && peaks_.bf16_gemm_gflops > 0;
    return bf16_units ? peaks_.bf16_gemm_gflops : peaks_.isas.back().f32_gflops;
  }

  const MachinePeaks& peaks_;
  std::string filter_;
  ExecutionContext context_;
};

void add_matmul(Bench& bench, std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_b,
                DType dtype) {
  bench.add<Matmul>(
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

void add_attention(Bench& bench, std::int64_t queries, std::int64_t keys, std::int64_t heads,
                   std::int64_t kv_heads, DType dtype) {
  const std::int64_t dim = 64;
  const AttentionShape s{
      1, queries, keys, heads, kv_heads, dim, keys - queries, true, 1 / std::sqrt(double(dim))};
  const std::string shape = str(queries, " of ", keys, ", ", heads, "/", kv_heads, " heads of ",
                                dim, queries < keys ? " (decode)" : "");
  bench.add<AttentionForward>(
      shape, dtype, queries < keys, [=] { return attention_arguments(s, dtype); },
      [](const AttentionForward::Arguments& a) {
        return std::vector{a.o_THK, a.lse_BHS};
      });
  if (queries < keys) return;
  bench.add<AttentionBackward>(
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

void add_rms_norm(Bench& bench, DType dtype) {
  const Shape shape{8192, 1024};
  const DType acc = accumulation_dtype(dtype);
  bench.add<RmsNormForward>(
      "8192x1024", dtype, true,
      [=] {
        return RmsNormForward::Arguments{some_values(shape, dtype), some_values({1024}, dtype),
                                         Tensor::zeros(shape, dtype), Tensor::zeros({8192}, acc)};
      },
      [](const RmsNormForward::Arguments& a) {
        return std::vector{a.y_TD, a.r_T};
      });
  bench.add<RmsNormBackward>(
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

void add_swiglu(Bench& bench, DType dtype) {
  const Shape shape{4096, 2048};
  bench.add<SwigluForward>(
      "4096x2048", dtype, true,
      [=] {
        return SwigluForward::Arguments{some_values(shape, dtype), some_values(shape, dtype),
                                        Tensor::zeros(shape, dtype)};
      },
      [](const SwigluForward::Arguments& a) { return std::vector{a.y_TF}; });
  bench.add<SwigluBackward>(
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

void add_rope(Bench& bench, DType dtype) {
  const Shape shape{8192, 1024};
  bench.add<Rope>(
      "8192, 16 heads of 64", dtype, true,
      [=] {
        return Rope::Arguments{some_values(shape, dtype), some_ids(8192, 8192),
                               Tensor::zeros(shape, dtype), 64};
      },
      [](const Rope::Arguments& a) { return std::vector{a.y_THK}; });
}

void add_embedding(Bench& bench, DType dtype) {
  const std::int64_t tokens = 8192, rows = 8192, width = 1024;
  const DType acc = accumulation_dtype(dtype);
  bench.add<EmbeddingForward>(
      "8192 of 8192x1024", dtype, true,
      [=] {
        return EmbeddingForward::Arguments{some_ids(tokens, rows),
                                           some_values({rows, width}, dtype),
                                           Tensor::zeros({tokens, width}, dtype)};
      },
      [](const EmbeddingForward::Arguments& a) { return std::vector{a.y_TD}; });
  bench.add<EmbeddingBackward>(
      "8192 of 8192x1024", dtype, true,
      [=] {
        return EmbeddingBackward::Arguments{some_ids(tokens, rows),
                                            some_values({tokens, width}, dtype),
                                            Tensor::zeros({rows, width}, acc)};
      },
      [](const EmbeddingBackward::Arguments& a) { return std::vector{a.dw_VD}; });
}

void add_cross_entropy(Bench& bench, DType dtype) {
  const std::int64_t tokens = 1024, vocabulary = 8192;
  const DType acc = accumulation_dtype(dtype);
  bench.add<CrossEntropyStatistics>(
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
  bench.add<CrossEntropyGradient>(
      "1024x8192", dtype, true,
      [=] {
        return CrossEntropyGradient::Arguments{
            some_values({tokens, vocabulary}, dtype), some_ids(tokens, vocabulary),
            some_values({tokens}, acc), some_values({tokens}, acc)};
      },
      // In place: the next call starts from this one's result, so this must be looked at before.
      [](const CrossEntropyGradient::Arguments& a) { return std::vector{a.logits_TV.clone()}; });
}

void add_adamw(Bench& bench) {
  const Shape shape{8 << 20};
  bench.add<AdamW>(
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

}  // namespace

std::vector<KernelMeasurement> measure_kernels(const MachinePeaks& peaks, int threads,
                                               const std::string& filter) {
  Bench bench(peaks, threads, filter);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_matmul(bench, 1024, 1024, 256, true, dtype);
    add_matmul(bench, 256, 1024, 1024, false, dtype);
  }
  add_matmul(bench, 512, 512, 256, true, DType::f64);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    add_attention(bench, 1024, 1024, 4, 2, dtype);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    add_attention(bench, 1, 8192, 8, 8, dtype);
    add_rms_norm(bench, dtype);
    add_swiglu(bench, dtype);
    add_rope(bench, dtype);
    add_embedding(bench, dtype);
    add_cross_entropy(bench, dtype);
  }
  add_adamw(bench);
  return std::move(bench.rows);
}

}  // namespace filigree
