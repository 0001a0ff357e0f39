// The emulated cuBLASLt: its products, and what it must catch.
#include <cublasLt.h>

#include "tests/simt/fixture.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

constexpr int kM = 5, kN = 3, kK = 7;

// d = a b for matrices stored by columns, from an algorithm found for `workspace` bytes at most.
struct Call {
  Call() {
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
              CUBLAS_STATUS_SUCCESS);
    describe(a, kM, kK, kM);
    describe(b, kK, kN, kK);
    describe(d, kM, kN, kM);
  }
  ~Call() { EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS); }
  Call(const Call&) = delete;

  static void describe(cublasLtMatrixLayoutOpaque_t& layout, int rows, int columns, int leading) {
    EXPECT_EQ(cublasLtMatrixLayoutInit(&layout, CUDA_R_32F, rows, columns, leading),
              CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof(value)),
              CUBLAS_STATUS_SUCCESS);
  }
  void add_bias(const float* bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{CUBLASLT_EPILOGUE_BIAS});
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  void find(std::uint32_t alignment = 4) {
    cublasLtMatmulPreferenceOpaque_t preference;
    EXPECT_EQ(cublasLtMatmulPreferenceInit(&preference), CUBLAS_STATUS_SUCCESS);
    const std::uint64_t most = 1 << 20;
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(
                  &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof(most)),
              CUBLAS_STATUS_SUCCESS);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &alignment,
                                                     sizeof(alignment)),
                CUBLAS_STATUS_SUCCESS);
    int count = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle, &product, &a, &b, &d, &d, &preference, 1,
                                             &found, &count),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(count, 1);
  }
  void run(const float* a_data, const float* b_data, float* d_data, void* workspace,
           std::size_t bytes, cudaStream_t stream) {
    const float one = 1.0f, nothing = 0.0f;
    EXPECT_EQ(cublasLtMatmul(handle, &product, &one, a_data, &a, b_data, &b, &nothing, d_data, &d,
                             d_data, &d, &found.algo, workspace, bytes, stream),
              CUBLAS_STATUS_SUCCESS);
  }

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, d;
  cublasLtMatmulHeuristicResult_t found{};
};

struct Operands {
  Stream stream;
  DeviceArray<float> a{random_floats(kM * kK + 1, 1), stream}, b{random_floats(kK * kN, 2), stream},
      d{kM * kN}, bias{random_floats(kM + 1, 3), stream}, workspace{1024};
};

TEST(CublasLt, MultipliesMatricesStoredByColumns) {
  simt::reset(seeded(0));
  Call call;
  Operands o;
  call.find();
  call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
  const std::vector<float> a = o.a.read(o.stream), b = o.b.read(o.stream), d = o.d.read(o.stream);
  for (int i = 0; i < kM; ++i)
    for (int j = 0; j < kN; ++j) {
      double sum = 0;
      for (int p = 0; p < kK; ++p) sum += double(a[i + p * kM]) * b[p + j * kK];
      EXPECT_NEAR(d[i + j * kM], sum, 1e-6) << i << ' ' << j;
    }
}

TEST(CublasLt, AddsTheBiasOfARowOnEveryColumn) {
  simt::reset(seeded(0));
  Operands o;
  DeviceArray<float> plain{kM * kN};
  Call without, call;
  without.find();
  without.run(o.a.get(), o.b.get(), plain.get(), o.workspace.get(), 4096, o.stream);
  call.add_bias(o.bias.get());
  call.find();
  call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
  const std::vector<float> product = plain.read(o.stream), d = o.d.read(o.stream),
                           bias = o.bias.read(o.stream);
  for (int i = 0; i < kM; ++i)
    for (int j = 0; j < kN; ++j)
      EXPECT_EQ(d[i + j * kM], product[i + j * kM] + bias[i]) << i << ' ' << j;
}

TEST(CublasLt, AnEpilogueThatIsNotEmulated) {
  expect_fault(
      [] {
        Call call;
        call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{6});  // RELU_BIAS
        call.find();
      },
      {"epilogue 6 is not emulated"}, 1);
}

TEST(CublasLt, ABiasOfAnotherTypeThanTheResult) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.add_bias(o.bias.get());
        call.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{CUDA_R_16BF});
        call.find();
      },
      {"a bias of another type than d's"}, 1);
}

TEST(CublasLt, AnAttributeOfAnotherSize) {
  Call call;
  const std::uint64_t wide = CUBLASLT_EPILOGUE_BIAS;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(&call.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &wide,
                                           sizeof(wide)),
            CUBLAS_STATUS_INVALID_VALUE);
}

TEST(CublasLt, AMissingBias) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.add_bias(nullptr);
        call.find();
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"an epilogue with a bias, and no pointer to one"}, 1);
}

TEST(CublasLt, ABiasLessAlignedThanPromised) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.add_bias(o.bias.get());
        call.find();
        call.add_bias(o.bias.get() + 1);
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"the bias is not aligned to the"}, 1);
}

TEST(CublasLt, AnAlgorithmFoundWithoutTheBias) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.find();
        call.add_bias(o.bias.get());
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"the algorithm was found for another product"}, 1);
}

TEST(CublasLt, ABiasThatIsTooShort) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.add_bias(o.bias.get() + 2);
        call.find();
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
        o.stream.synchronize();
      },
      {"cublasLtMatmul: reads 20 bytes at byte 8 of the 24 bytes"});
}

TEST(CublasLt, ABiasThatIsStillBeingWritten) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  expect_fault(
      [] {
        Call call;
        Operands o;
        Stream other;
        call.add_bias(o.bias.get());
        call.find();
        o.stream.synchronize();
        scale(o.bias.get(), o.bias.get(), 2.0f, kM, other);
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
        o.stream.synchronize();
        other.synchronize();
      },
      {"race in device memory", "no event or stream orders it"});
}

TEST(CublasLt, ShapesThatDoNotFit) {
  expect_fault(
      [] {
        Call call;
        Call::describe(call.b, kK + 1, kN, kK + 1);
        call.find();
      },
      {"a 5 x 7 times b 8 x 3 is not c 5 x 3"}, 1);
}

TEST(CublasLt, ALeadingDimensionBelowTheRows) {
  expect_fault(
      [] {
        Call call;
        Call::describe(call.a, kM, kK, kM - 1);
        call.find();
      },
      {"leading dimension 4 of a matrix of 5 rows"}, 1);
}

TEST(CublasLt, AnAlgorithmOfAnotherProduct) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.find();
        Call::describe(call.a, kM, kK, kM + 1);
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"the algorithm was found for another product"}, 1);
}

TEST(CublasLt, AnOperandLessAlignedThanPromised) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        call.find(16);
        call.run(o.a.get() + 1, o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"a is not aligned to the 16 bytes"}, 1);
}

TEST(CublasLt, AHostPointer) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        const std::vector<float> on_the_host(kM * kK);
        call.find();
        call.run(on_the_host.data(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
      },
      {"a is not device memory"}, 1);
}

TEST(CublasLt, TooSmallAWorkspace) {
  expect_fault(
      [] {
        Call call;
        Operands o;
        for (int columns = kN; call.found.workspaceSize == 0; ++columns) {  // some need one
          Call::describe(call.b, kK, columns, kK);
          Call::describe(call.d, kM, columns, kM);
          call.find();
        }
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), call.found.workspaceSize - 1,
                 o.stream);
      },
      {"bytes of workspace, given"}, 1);
}

TEST(CublasLt, AMissingEventWait) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  expect_fault(
      [] {
        Call call;
        Operands o;
        Stream other;
        call.find();
        o.stream.synchronize();
        scale(o.a.get(), o.a.get(), 2.0f, kM * kK, other);
        call.run(o.a.get(), o.b.get(), o.d.get(), o.workspace.get(), 4096, o.stream);
        o.stream.synchronize();
        other.synchronize();
      },
      {"race in device memory", "no event or stream orders it"});
}

}  // namespace
}  // namespace simt_test
