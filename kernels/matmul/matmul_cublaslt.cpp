// Matrix product through cuBLASLt. Everything that names the library is in this file.
//
// cuBLASLt's matrices are stored by columns, ours by rows: the bytes of c are those of c^T by
// columns, and c^T = B^T A^T. So b is the library's first operand and a its second, n counts its
// rows, and nothing is copied. Its bias, one number per row of its result, is thus ours, one per
// column of c.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "kernels/matmul/matmul_implementations.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {
namespace {

void check_cublas(cublasStatus_t status, const char* call) {
  FILIGREE_CHECK(status == CUBLAS_STATUS_SUCCESS, call, ": ", cublasLtGetStatusString(status), " (",
                 cublasLtGetStatusName(status), ")");
}
#define FILIGREE_CHECK_CUBLAS(call) check_cublas((call), #call)

struct CublasProblem {
  int device;
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
  DType in, out;
  std::array<std::uint32_t, 3> alignment;  // bytes, of a, b and c
  std::uint32_t bias_alignment;            // 0: there is no bias
  auto key() const {
    return std::tie(device, m, n, k, transpose_a, transpose_b, in, out, alignment, bias_alignment);
  }
  bool operator<(const CublasProblem& other) const { return key() < other.key(); }
};

struct CublasPlan {
  cublasLtHandle_t handle;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t first, second, result;
  cublasLtMatmulAlgo_t algorithm;
  std::int64_t workspace_bytes;
};

cudaDataType_t cuda_type(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two, 256 at most, that divides the address.
std::uint32_t alignment_of(const Tensor& tensor) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.raw()) | 256u;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

cublasOperation_t operation(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

template <class T>
void set(cublasLtMatmulDescOpaque_t& product, cublasLtMatmulDescAttributes_t attribute, T value) {
  FILIGREE_CHECK_CUBLAS(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof(value)));
}

template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference,
         cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  FILIGREE_CHECK_CUBLAS(
      cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)));
}

void describe(cublasLtMatrixLayoutOpaque_t& layout, DType dtype, std::int64_t rows,
              std::int64_t columns, bool transposed) {
  if (transposed) std::swap(rows, columns);
  FILIGREE_CHECK_CUBLAS(cublasLtMatrixLayoutInit(&layout, cuda_type(dtype),
                                                 static_cast<std::uint64_t>(rows),
                                                 static_cast<std::uint64_t>(columns), rows));
}

// Sums of one product split over blocks may be added in f32 only: in the output's dtype they would
// be rounded to bf16 on the way.
cublasLtMatmulPreferenceOpaque_t preference_for(const CublasProblem& problem) {
  constexpr std::uint64_t kWorkspaceBytes = 32 << 20;  // what NVIDIA recommends for Hopper
  cublasLtMatmulPreferenceOpaque_t preference;
  FILIGREE_CHECK_CUBLAS(cublasLtMatmulPreferenceInit(&preference));
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.alignment[1]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.alignment[0]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.alignment[2]);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.alignment[2]);
  return preference;
}

// The library takes a bias of the result's type. Of the pointer it looks at the alignment until a
// product runs, so the least address so aligned stands for all of them.
void describe_bias(cublasLtMatmulDescOpaque_t& product, const CublasProblem& p) {
  set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  set(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(cuda_type(p.out)));
  set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, std::uintptr_t{p.bias_alignment});
}

// Of the device that is current.
CublasPlan make_plan(const CublasProblem& p, cublasLtHandle_t handle) {
  CublasPlan plan{};
  plan.handle = handle;
  // f32 means f32: TF32, which keeps 10 bits of the operands, would be COMPUTE_32F_FAST_TF32.
  FILIGREE_CHECK_CUBLAS(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, operation(p.transpose_b));
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, operation(p.transpose_a));
  if (p.bias_alignment != 0) describe_bias(plan.product, p);
  describe(plan.first, p.in, p.n, p.k, p.transpose_b);
  describe(plan.second, p.in, p.k, p.m, p.transpose_a);
  describe(plan.result, p.out, p.n, p.m, false);
  cublasLtMatmulPreferenceOpaque_t preference = preference_for(p);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, &plan.product, &plan.first, &plan.second, &plan.result,
                                     &plan.result, &preference, 1, &found, &count);
  FILIGREE_CHECK(status == CUBLAS_STATUS_SUCCESS && count == 1, "cuBLASLt has no ", p.m, " x ", p.n,
                 " x ", p.k, " product of ", name_of(p.in), " into ", name_of(p.out),
                 p.bias_alignment != 0 ? " with a bias: " : ": ", cublasLtGetStatusString(status));
  plan.algorithm = found.algo;
  plan.workspace_bytes = static_cast<std::int64_t>(found.workspaceSize);
  return plan;
}

// A training step repeats a few dozen shapes, and asking the library costs it more than a launch.
// When the cache is full, which only a stream of ever new shapes brings about, it starts again.
CublasPlan plan_for(const CublasProblem& problem) {
  constexpr std::size_t kMaxPlans = 1024;
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;  // by device; the driver's end is theirs too
  static std::map<CublasProblem, CublasPlan> plans;
  const std::lock_guard lock(mutex);
  const auto found = plans.find(problem);
  if (found != plans.end()) return found->second;
  if (plans.size() >= kMaxPlans) plans.clear();
  cublasLtHandle_t& handle = handles[problem.device];
  if (handle == nullptr) FILIGREE_CHECK_CUBLAS(cublasLtCreate(&handle));
  return plans.emplace(problem, make_plan(problem, handle)).first->second;
}

// k = 0. Only a bias takes the library: it is added to a product of zeros.
void multiply_nothing(const Matmul::Arguments& a, ExecutionContext& context) {
  const std::int64_t m = a.c.dim(0), n = a.c.dim(1);
  if (a.bias.defined()) {
    const Tensor zeros = context.zeros({std::max(m, n)}, a.a.dtype());
    Matmul::cuda({.a = zeros.flat(0, {m, 1}),
                  .b = zeros.flat(0, {1, n}),
                  .c = a.c,
                  .accumulate = a.accumulate,
                  .bias = a.bias},
                 context);
  } else if (!a.accumulate) {
    context.zero(a.c);
  }
}

}  // namespace

void Matmul::cuda(const Arguments& a, ExecutionContext& context) {
  const auto [m, n, k] = matmul_sizes(a);
  if (m == 0 || n == 0) return;
  if (k == 0) return multiply_nothing(a, context);
  FILIGREE_CHECK_CUDA(cudaSetDevice(context.device.index));
  CublasPlan plan = plan_for({context.device.index,
                              m,
                              n,
                              k,
                              a.transpose_a,
                              a.transpose_b,
                              a.a.dtype(),
                              a.c.dtype(),
                              {alignment_of(a.a), alignment_of(a.b), alignment_of(a.c)},
                              a.bias.defined() ? alignment_of(a.bias) : 0});
  if (a.bias.defined()) set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.bias.raw());
  const Tensor workspace = context.empty({plan.workspace_bytes}, DType::u8);
  const float one = 1.0f, kept = a.accumulate ? 1.0f : 0.0f;
  FILIGREE_CHECK_CUBLAS(cublasLtMatmul(plan.handle, &plan.product, &one, a.b.raw(), &plan.first,
                                       a.a.raw(), &plan.second, &kept, a.c.raw(), &plan.result,
                                       a.c.raw(), &plan.result, &plan.algorithm, workspace.raw(),
                                       static_cast<std::size_t>(plan.workspace_bytes),
                                       static_cast<cudaStream_t>(context.stream->native())));
}

}  // namespace filigree
