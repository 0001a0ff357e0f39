// Attention through cuDNN: what it is told, which needs no GPU, and what it answers on one.
#include "kernels/attention/attention_cudnn.hpp"

#include "runtime/cuda/cuda_device.hpp"
#include "tests/harness/bits.hpp"
#include "tests/kernels/attention_patterns.hpp"

namespace filigree {
namespace {

using testing::same_bits;

template <class Op>
const Implementation<Op>& cudnn() {
  for (const auto& candidate : kernel_table().implementations<Op>())
    if (candidate.name == "cudnn") return candidate;
  throw std::runtime_error("the table of kernels has no cuDNN");
}

struct Reasons {
  std::string forward, backward;
};
Reasons reasons(const AttentionShape& shape, DType dtype = DType::bf16,
                const AttentionPattern& pattern = {}) {
  const Problem x(shape, dtype, dtype, 11, pattern);
  return {cudnn<AttentionForward>()
              .reject({shape, x.q, x.k, x.v, x.o, x.lse, x.pattern}, ExecutionContext{})
              .value_or("accepted"),
          cudnn<AttentionBackward>()
              .reject({shape, x.q, x.k, x.v, x.o, x.lse, x.d_o, x.dq, x.dk, x.dv, x.pattern},
                      ExecutionContext{})
              .value_or("accepted")};
}

void expect_reason(const Reasons& got, const std::string& part) {
  EXPECT_NE(got.forward.find(part), std::string::npos) << got.forward;
  EXPECT_EQ(got.backward, got.forward);
}

TEST(AttentionCudnn, SaysWhatItCannot) {
  expect_reason(reasons(shape_of(2, 100, 100, 4, 2, 64)), "accepted");
  expect_reason(reasons(shape_of(1, 33, 70, 2, 1, 128, 37)), "accepted");
  expect_reason(reasons(shape_of(1, 70, 33, 2, 1, 8, 5, false)), "accepted");
  expect_reason(reasons(shape_of(1, 100, 100, 2, 1, 64), DType::f32),
                "computes in bf16, not in f32");
  expect_reason(reasons(shape_of(1, 100, 100, 2, 1, 68)), "in steps of 8, not 68");
  expect_reason(reasons(shape_of(1, 100, 100, 2, 1, 136)), "heads of up to 128");
  expect_reason(reasons(shape_of(1, 100, 0, 2, 1, 64)), "1 of 100 queries and 0 keys");
  expect_reason(reasons(shape_of(1, 10, 100, 2, 1, 64, 40)),
                "not 10 queries from position 40 of 100 keys on");
  AttentionPattern window;
  window.window = 20;
  expect_reason(reasons(shape_of(1, 100, 100, 2, 1, 64), DType::bf16, window),
                "dense attention only");
}

TEST(AttentionCudnn, RefusesWhatItsWideLoadsWouldMisread) {
  const AttentionShape shape = shape_of(1, 10, 10, 1, 1, 8);
  const Problem x(shape, DType::bf16, DType::bf16);
  const Tensor whole = Tensor::zeros({2 * 10 * 8}, DType::bf16);
  const Tensor shifted = whole.flat(1, {10, 8});
  EXPECT_EQ(cudnn<AttentionForward>().reject({shape, x.q, shifted, x.v, x.o, x.lse}, {}),
            "tensors aligned to 16 bytes");
}

TEST(AttentionCudnn, IsTakenOnlyWhereItIsForced) {
  const AttentionShape shape = shape_of(1, 20, 20, 1, 1, 64);
  const Problem x(shape, DType::bf16, DType::bf16);
  for (const auto& candidate : kernel_table().implementations<AttentionBackward>()) {
    if (candidate.name != "cuda") continue;
    EXPECT_GT(candidate.priority, cudnn<AttentionBackward>().priority);
    EXPECT_GT(candidate.priority, cudnn<AttentionForward>().priority);
  }
  ExecutionContext context;
  context.device = {DeviceKind::cuda, 0};
  const AttentionBackward::Arguments arguments{shape, x.q,   x.k,  x.v,  x.o,
                                               x.lse, x.d_o, x.dq, x.dk, x.dv};
  EXPECT_EQ(select_implementation<AttentionBackward>(arguments, context).name, "cuda");
  context.forced_kernels["attention_backward"] = "cudnn";
  EXPECT_EQ(select_implementation<AttentionBackward>(arguments, context).name, "cudnn");
}

// The element that a view puts at [b, h, i, d], against the layout of attention.hpp.
TEST(AttentionCudnn, SeesTheElementsOfTokenMajorTensors) {
  const AttentionShape s = shape_of(3, 5, 7, 6, 2, 8);
  const auto at = [](const CudnnView& view, std::int64_t b, std::int64_t h, std::int64_t i,
                     std::int64_t d) {
    return b * view.strides[0] + h * view.strides[1] + i * view.strides[2] + d * view.strides[3];
  };
  const CudnnView queries = cudnn_view_of_queries(s), keys = cudnn_view_of_keys(s),
                  lse = cudnn_view_of_lse(s);
  EXPECT_EQ(queries.dims, (std::array<std::int64_t, 4>{3, 6, 5, 8}));
  EXPECT_EQ(keys.dims, (std::array<std::int64_t, 4>{3, 2, 7, 8}));
  EXPECT_EQ(lse.dims, (std::array<std::int64_t, 4>{3, 6, 5, 1}));
  EXPECT_EQ(at(queries, 2, 3, 4, 5), ((2 * 5 + 4) * 6 + 3) * 8 + 5);
  EXPECT_EQ(at(keys, 1, 1, 6, 7), ((1 * 7 + 6) * 2 + 1) * 8 + 7);
  EXPECT_EQ(at(lse, 2, 4, 3, 0), (2 * 6 + 4) * 5 + 3);
}

TEST(AttentionCudnn, KnowsWhichCausalMasksItHas) {
  EXPECT_EQ(cudnn_mask(shape_of(1, 9, 9, 1, 1, 8)), CudnnMask::from_first_key);
  EXPECT_EQ(cudnn_mask(shape_of(1, 9, 12, 1, 1, 8)), CudnnMask::from_first_key);
  EXPECT_EQ(cudnn_mask(shape_of(1, 12, 9, 1, 1, 8)), CudnnMask::from_first_key);
  EXPECT_EQ(cudnn_mask(shape_of(1, 9, 12, 1, 1, 8, 3)), CudnnMask::to_last_key);
  EXPECT_EQ(cudnn_mask(shape_of(1, 9, 12, 1, 1, 8, 2)), std::nullopt);
  EXPECT_EQ(cudnn_mask(shape_of(1, 12, 9, 1, 1, 8, -3)), std::nullopt);
  EXPECT_EQ(cudnn_mask(shape_of(1, 9, 12, 1, 1, 8, 2, false)), CudnnMask::none);
}

std::vector<AttentionShape> shapes() {
  return {shape_of(2, 128, 128, 4, 2, 64),           shape_of(1, 300, 300, 2, 2, 128),
          shape_of(1, 257, 257, 6, 1, 64),           shape_of(1, 70, 330, 2, 1, 96, 260),
          shape_of(2, 130, 170, 4, 2, 40, 0, false), shape_of(1, 65, 65, 1, 1, 8, 0, false)};
}

TEST(AttentionCudnn, DescribesGraphsThatCudnnTakes) {
  for (const AttentionShape& shape : shapes())
    for (const bool deterministic : {false, true})
      for (const int capability : {80, 90})
        EXPECT_NO_THROW(check_cudnn_attention(shape, deterministic, capability))
            << describe(shape) << " on sm_" << capability;
}

TEST(AttentionCudnn, PassesOnWhatCudnnObjectsTo) {
  const auto objection = [](const AttentionShape& shape, int capability) -> std::string {
    try {
      check_cudnn_attention(shape, true, capability);
    } catch (const InternalError& error) {
      return error.what();
    }
    return "none";
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(objection(shapes()[0], 75), "cuDNN: graph->validate(): ");
  has(objection(shapes()[0], 75), "SM80");
  has(objection(shape_of(1, 64, 64, 1, 1, 60), 90), "multiple of 8");
}

TEST(AttentionCudnn, IsAsExactAsPlainLoopsWithTheSameBitsInEveryRun) {
  try {
    cuda_devices();
  } catch (const UserError& error) {
    GTEST_SKIP() << error.what();
  }
  testing::accelerator() = [](int) { return make_cuda_context(0); };
  for (const AttentionShape& shape : shapes()) {
    const auto truth = solved(shape, DType::f64, DType::bf16, "reference").outputs();
    const auto plain = plain_errors(shape, DType::bf16);
    const auto got = solved(shape, DType::bf16, DType::bf16, "cudnn", 1).outputs();
    const auto again = solved(shape, DType::bf16, DType::bf16, "cudnn", 2).outputs();
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::string what = str(got[i].first, ", ", describe(shape));
      expect_within(got[i].second, truth[i].second, plain[i], what);
      EXPECT_TRUE(same_bits(got[i].second, again[i].second)) << what;
    }
  }
}

}  // namespace
}  // namespace filigree
