// cuBLASLt: an algorithm is a promise about the shapes, alignments and workspace that it was found
// for, and the product is an operation of the stream that keeps the caller to them.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cstring>
#include <simt/launch.hpp>
#include <vector>

#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/operations.hpp"

struct cublasLtContext {
  int device;
};

namespace simt {
namespace {

constexpr std::uint64_t kMade = 0x5eedf00d;  // marks what one of our functions has initialised

// Places in the opaque structs.
constexpr int kMark = 0;
constexpr int kType = 1, kRows = 2, kColumns = 3, kLeading = 4;            // of a layout
constexpr int kCompute = 1, kScale = 2, kTransposeA = 3, kTransposeB = 4;  // of a product
constexpr int kEpilogue = 5, kBias = 6, kBiasType = 7;                     // and its bias
constexpr int kWorkspace = 1, kScheme = 3;                                 // of a preference
constexpr int kFingerprint = 1, kNeeded = 2, kBiasAlignment = 3;           // of an algorithm
constexpr int kAlignmentA = 4;  // of the last two: those of A, B, C and D from here

constexpr std::int32_t kTypeOfResult = -1;  // the bias type of a product that names none

[[noreturn]] void refuse(const std::string& what) { throw Fault("cublasLtMatmul: " + what); }

struct Matrix {
  explicit Matrix(const cublasLtMatrixLayoutOpaque_t& layout)
      : type(static_cast<cudaDataType_t>(layout.data[kType])),
        rows(layout.data[kRows]),
        columns(layout.data[kColumns]),
        leading(layout.data[kLeading]) {
    if (layout.data[kMark] != kMade) refuse("a matrix layout that was never initialised");
    if (leading < rows)
      refuse("leading dimension " + std::to_string(leading) + " of a matrix of " +
             std::to_string(rows) + " rows");
  }
  std::size_t element() const { return type == CUDA_R_16BF ? 2 : 4; }
  std::string text() const { return std::to_string(rows) + " x " + std::to_string(columns); }

  void check(Machine& machine, const void* data, Access access) const {
    const auto* const begin = static_cast<const unsigned char*>(data);
    for (std::uint64_t j = 0; j < columns; ++j)
      machine.check().operation_access(begin + j * leading * element(), rows * element(), access);
  }
  float read(const void* data, std::uint64_t i, std::uint64_t j) const {
    const std::uint64_t at = i + j * leading;
    return type == CUDA_R_16BF ? static_cast<float>(static_cast<const __nv_bfloat16*>(data)[at])
                               : static_cast<const float*>(data)[at];
  }
  void write(void* data, std::uint64_t i, std::uint64_t j, float value) const {
    const std::uint64_t at = i + j * leading;
    if (type == CUDA_R_16BF)
      static_cast<__nv_bfloat16*>(data)[at] = __nv_bfloat16(value);
    else
      static_cast<float*>(data)[at] = value;
  }

  cudaDataType_t type;
  std::uint64_t rows, columns, leading;
};

struct Product {
  Product(const cublasLtMatmulDescOpaque_t& product, const cublasLtMatrixLayoutOpaque_t& a_layout,
          const cublasLtMatrixLayoutOpaque_t& b_layout,
          const cublasLtMatrixLayoutOpaque_t& c_layout,
          const cublasLtMatrixLayoutOpaque_t& d_layout)
      : a(a_layout),
        b(b_layout),
        c(c_layout),
        d(d_layout),
        transpose_a(product.data[kTransposeA] != 0),
        transpose_b(product.data[kTransposeB] != 0),
        has_bias(product.data[kEpilogue] == CUBLASLT_EPILOGUE_BIAS),
        bias(reinterpret_cast<const void*>(product.data[kBias])) {
    if (product.data[kMark] != kMade) refuse("a product that was never initialised");
    if (product.data[kCompute] != CUBLAS_COMPUTE_32F || product.data[kScale] != CUDA_R_32F)
      refuse("only CUBLAS_COMPUTE_32F with f32 factors is emulated");
    const std::uint64_t m = transpose_a ? a.columns : a.rows, k = transpose_a ? a.rows : a.columns;
    const std::uint64_t n = transpose_b ? b.rows : b.columns;
    if (k != (transpose_b ? b.columns : b.rows) || d.rows != m || d.columns != n || c.rows != m ||
        c.columns != n)
      refuse("a " + a.text() + (transpose_a ? "^T" : "") + " times b " + b.text() +
             (transpose_b ? "^T" : "") + " is not c " + c.text() + " or d " + d.text());
    if (a.type != b.type || c.type != d.type || (a.type == CUDA_R_32F && d.type != CUDA_R_32F))
      refuse("a combination of types that the library does not multiply");
    check_epilogue(product);
    for (const std::uint64_t value :
         {m, n, k, a.leading, b.leading, c.leading, d.leading, std::uint64_t(a.type),
          std::uint64_t(d.type), std::uint64_t(transpose_a), std::uint64_t(transpose_b),
          std::uint64_t(has_bias)})
      fingerprint = (fingerprint ^ value) * 0x9E3779B97F4A7C15ull;
  }

  void check_epilogue(const cublasLtMatmulDescOpaque_t& product) const {
    const std::uint64_t epilogue = product.data[kEpilogue];
    if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS)
      refuse("epilogue " + std::to_string(epilogue) + " is not emulated");
    const auto type = static_cast<std::int32_t>(product.data[kBiasType]);
    if (has_bias && type != kTypeOfResult && type != d.type)
      refuse("a bias of another type than d's");
  }
  // One number for each row of d, of its type.
  Matrix bias_vector() const {
    Matrix vector = d;
    vector.columns = 1;
    return vector;
  }

  // Plain loops in f32, in ascending k.
  void compute(const void* a_data, const void* b_data, const void* c_data, void* d_data,
               float alpha, float beta) const {
    const std::uint64_t depth = transpose_a ? a.rows : a.columns;
    std::vector<float> row(depth * d.rows), column(depth);
    for (std::uint64_t i = 0; i < d.rows; ++i)
      for (std::uint64_t p = 0; p < depth; ++p)
        row[i * depth + p] = transpose_a ? a.read(a_data, p, i) : a.read(a_data, i, p);
    for (std::uint64_t j = 0; j < d.columns; ++j) {
      for (std::uint64_t p = 0; p < depth; ++p)
        column[p] = transpose_b ? b.read(b_data, j, p) : b.read(b_data, p, j);
      for (std::uint64_t i = 0; i < d.rows; ++i) {
        float sum = 0.0f;
        for (std::uint64_t p = 0; p < depth; ++p) sum += row[i * depth + p] * column[p];
        sum *= alpha;
        if (beta != 0.0f) sum += beta * c.read(c_data, i, j);
        if (has_bias) sum += d.read(bias, i, 0);
        d.write(d_data, i, j, sum);
      }
    }
  }

  Matrix a, b, c, d;
  bool transpose_a, transpose_b, has_bias;
  const void* bias;
  std::uint64_t fingerprint = 1;
};

// The largest power of two, 256 at most, that divides the address.
std::uint64_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | 256u;
  return address & (~address + 1);
}

void check_pointer(Machine& machine, const void* pointer, std::uint64_t alignment,
                   const std::string& name) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (!machine.memory().holds(address)) refuse(name + " is not device memory");
  if (alignment == 0 || address % alignment != 0)
    refuse(name + " is not aligned to the " + std::to_string(alignment) +
           " bytes that the algorithm was found for");
}

void check_bias(Machine& machine, const void* bias, std::uint64_t alignment) {
  if (bias == nullptr) refuse("an epilogue with a bias, and no pointer to one");
  check_pointer(machine, bias, alignment, "the bias");
}

template <class Value>
bool take(const void* value, std::size_t bytes, std::uint64_t& to) {
  if (bytes != sizeof(Value)) return false;
  Value typed;
  std::memcpy(&typed, value, bytes);
  to = static_cast<std::uint64_t>(typed);
  return true;
}

cublasStatus_t answer(bool accepted) {
  return accepted ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // namespace
}  // namespace simt

using namespace simt;

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    default:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "the function completed successfully";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    default:
      return "the functionality requested is not supported";
  }
}

std::size_t cublasLtGetVersion() {
  return CUBLAS_VER_MAJOR * 10000 + CUBLAS_VER_MINOR * 100 + CUBLAS_VER_PATCH;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext{current_device};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType_t type,
                                        std::uint64_t rows, std::uint64_t columns,
                                        std::int64_t leading_dimension) {
  *layout = {{kMade, static_cast<std::uint64_t>(type), rows, columns,
              static_cast<std::uint64_t>(leading_dimension)}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t product, cublasComputeType_t compute,
                                      cudaDataType_t scale) {
  *product = {{kMade, static_cast<std::uint64_t>(compute), static_cast<std::uint64_t>(scale)}};
  product->data[kEpilogue] = CUBLASLT_EPILOGUE_DEFAULT;
  product->data[kBiasType] = static_cast<std::uint64_t>(kTypeOfResult);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  std::uint64_t* const data = product->data;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return answer(take<cublasOperation_t>(value, bytes, data[kTransposeA]));
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return answer(take<cublasOperation_t>(value, bytes, data[kTransposeB]));
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return answer(take<std::uint32_t>(value, bytes, data[kEpilogue]));
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return answer(take<std::uintptr_t>(value, bytes, data[kBias]));
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return answer(take<std::int32_t>(value, bytes, data[kBiasType]));
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
  *preference = {{kMade, 0, 0, 0, 256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  std::uint64_t* const data = preference->data;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return answer(take<std::uint64_t>(value, bytes, data[kWorkspace]));
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return answer(take<std::uint32_t>(value, bytes, data[kScheme]));
    default:
      return answer(take<std::uint32_t>(
          value, bytes,
          data[kAlignmentA + attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]));
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* returned) {
  *returned = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested < 1 || preference->data[kMark] != kMade) return CUBLAS_STATUS_INVALID_VALUE;
  const Product checked(*product, *a, *b, *c, *d);
  // Some shapes need a workspace and some do not.
  const std::uint64_t wished = checked.fingerprint % 3 * 1000;
  const std::uint64_t needed = wished <= preference->data[kWorkspace] ? wished : 0;
  results[0] = {};
  // All that is known here of a bias is how its pointer is aligned.
  results[0].algo = {{kMade, checked.fingerprint, needed, alignment_of(checked.bias)}};
  for (int i = 0; i < 4; ++i)
    results[0].algo.data[kAlignmentA + i] = preference->data[kAlignmentA + i];
  results[0].workspaceSize = needed;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Product checked(*product, *a_layout, *b_layout, *c_layout, *d_layout);
  const std::uint64_t* const found = algorithm->data;
  if (found[kMark] != kMade || found[kFingerprint] != checked.fingerprint)
    refuse("the algorithm was found for another product");
  if (workspace_bytes < found[kNeeded])
    refuse("the algorithm needs " + std::to_string(found[kNeeded]) + " bytes of workspace, given " +
           std::to_string(workspace_bytes));
  const float factor = *static_cast<const float*>(alpha), kept = *static_cast<const float*>(beta);
  const std::size_t used = found[kNeeded];

  Call call;
  if (!call.usable()) return CUBLAS_STATUS_NOT_SUPPORTED;
  CUstream_st& target = call.machine.stream(stream, "cublasLtMatmul");
  if (target.device != handle->device || target.device != call.device)
    refuse("the stream belongs to device " + std::to_string(target.device) + ", the handle to " +
           std::to_string(handle->device) + ", current is " + std::to_string(call.device));
  check_pointer(call.machine, a, found[kAlignmentA], "a");
  check_pointer(call.machine, b, found[kAlignmentA + 1], "b");
  if (kept != 0.0f) check_pointer(call.machine, c, found[kAlignmentA + 2], "c");
  check_pointer(call.machine, d, found[kAlignmentA + 3], "d");
  if (checked.has_bias) check_bias(call.machine, checked.bias, found[kBiasAlignment]);
  if (used > 0) check_pointer(call.machine, workspace, 256, "the workspace");
  call.machine.enqueue(target, std::make_shared<Step>("cublasLtMatmul", [=](Machine& machine, int) {
                         checked.a.check(machine, a, Access::read);
                         checked.b.check(machine, b, Access::read);
                         if (kept != 0.0f) checked.c.check(machine, c, Access::read);
                         if (checked.has_bias)
                           checked.bias_vector().check(machine, checked.bias, Access::read);
                         if (used > 0) {  // whoever keeps something there loses it
                           machine.check().operation_access(workspace, used, Access::write);
                           std::memset(workspace, 0xff, used);
                         }
                         checked.d.check(machine, d, Access::write);
                         checked.compute(a, b, c, d, factor, kept);
                       }));
  return CUBLAS_STATUS_SUCCESS;
}
