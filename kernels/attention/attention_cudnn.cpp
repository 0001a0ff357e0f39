// Attention through cuDNN's graph interface. Everything that names the library is in this file, for
// its frontend, which is all headers, takes most of a minute to compile.
#define CUDNN_FRONTEND_SKIP_JSON_LIB  // no plan is written down
#include "kernels/attention/attention_cudnn.hpp"

#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "kernels/attention/attention_implementations.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {
namespace {

namespace fe = cudnn_frontend;

void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> why{};
  cudnnGetLastErrorString(why.data(), why.size());
  throw InternalError(str(call, ": ", cudnnGetErrorString(status), ": ", why.data()));
}
void check_cudnn(fe::error_t error, const char* call) {
  if (error.is_bad()) throw InternalError(str("cuDNN: ", call, ": ", error.get_message()));
}
#define FILIGREE_CHECK_CUDNN(call) check_cudnn((call), #call)

struct CudnnProblem {
  int device;
  AttentionShape shape;
  bool backward;
  bool deterministic;  // concerns backward
  auto key() const {
    return std::tie(device, shape.batch, shape.query_length, shape.key_length, shape.query_heads,
                    shape.kv_heads, shape.head_dim, shape.query_offset, shape.causal, shape.scale,
                    backward, deterministic);
  }
  bool operator<(const CudnnProblem& other) const { return key() < other.key(); }
};

enum Uid : std::int64_t { kQ = 1, kK, kV, kO, kLse, kDo, kDq, kDk, kDv };
using Pointers = std::unordered_map<std::int64_t, void*>;
using GraphTensor = std::shared_ptr<fe::graph::Tensor_attributes>;

fe::graph::Tensor_attributes attributes(Uid uid, const char* name, const CudnnView& view,
                                        fe::DataType_t type) {
  return fe::graph::Tensor_attributes()
      .set_uid(uid)
      .set_name(name)
      .set_dim({view.dims.begin(), view.dims.end()})
      .set_stride({view.strides.begin(), view.strides.end()})
      .set_data_type(type);
}

void make_output(const GraphTensor& tensor, Uid uid, const CudnnView& view, fe::DataType_t type) {
  tensor->set_output(true)
      .set_uid(uid)
      .set_dim({view.dims.begin(), view.dims.end()})
      .set_stride({view.strides.begin(), view.strides.end()})
      .set_data_type(type);
}

template <class Attributes>
Attributes masked(Attributes attributes, const AttentionShape& shape) {
  attributes.set_attn_scale(static_cast<float>(shape.scale));
  const CudnnMask mask = *cudnn_mask(shape);
  if (mask == CudnnMask::none) return attributes;
  attributes.set_diagonal_band_right_bound(0);
  attributes.set_diagonal_alignment(mask == CudnnMask::from_first_key
                                        ? fe::DiagonalAlignment_t::TOP_LEFT
                                        : fe::DiagonalAlignment_t::BOTTOM_RIGHT);
  return attributes;
}

constexpr auto kHalf = fe::DataType_t::BFLOAT16;
constexpr auto kFull = fe::DataType_t::FLOAT;

void add_forward(fe::graph::Graph& graph, const AttentionShape& s) {
  const CudnnView queries = cudnn_view_of_queries(s), keys = cudnn_view_of_keys(s);
  const GraphTensor q = graph.tensor(attributes(kQ, "q", queries, kHalf));
  const GraphTensor k = graph.tensor(attributes(kK, "k", keys, kHalf));
  const GraphTensor v = graph.tensor(attributes(kV, "v", keys, kHalf));
  auto options = masked(fe::graph::SDPA_attributes(), s);
  options.set_name("attention_forward").set_generate_stats(true);
  const auto [o, lse] = graph.sdpa(q, k, v, options);
  make_output(o, kO, queries, kHalf);
  make_output(lse, kLse, cudnn_view_of_lse(s), kFull);
}

void add_backward(fe::graph::Graph& graph, const AttentionShape& s, bool deterministic) {
  const CudnnView queries = cudnn_view_of_queries(s), keys = cudnn_view_of_keys(s);
  const GraphTensor q = graph.tensor(attributes(kQ, "q", queries, kHalf));
  const GraphTensor k = graph.tensor(attributes(kK, "k", keys, kHalf));
  const GraphTensor v = graph.tensor(attributes(kV, "v", keys, kHalf));
  const GraphTensor o = graph.tensor(attributes(kO, "o", queries, kHalf));
  const GraphTensor lse = graph.tensor(attributes(kLse, "lse", cudnn_view_of_lse(s), kFull));
  const GraphTensor d_o = graph.tensor(attributes(kDo, "do", queries, kHalf));
  auto options = masked(fe::graph::SDPA_backward_attributes(), s);
  options.set_name("attention_backward").set_deterministic_algorithm(deterministic);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, o, d_o, lse, options);
  make_output(dq, kDq, queries, kHalf);
  make_output(dk, kDk, keys, kHalf);
  make_output(dv, kDv, keys, kHalf);
}

// Checked by the frontend, and taken in by the library. Without a handle it cannot be planned.
std::shared_ptr<fe::graph::Graph> make_graph(const CudnnProblem& problem, int capability,
                                             cudnnHandle_t handle) {
  const auto graph = std::make_shared<fe::graph::Graph>();
  graph->set_intermediate_data_type(kFull).set_compute_data_type(kFull).set_sm_version(capability);
  if (problem.backward)
    add_backward(*graph, problem.shape, problem.deterministic);
  else
    add_forward(*graph, problem.shape);
  FILIGREE_CHECK_CUDNN(graph->validate());
  FILIGREE_CHECK_CUDNN(graph->build_operation_graph(handle));
  return graph;
}

struct CudnnPlan {
  std::shared_ptr<fe::graph::Graph> graph;
  std::int64_t workspace_bytes = 0;
};

CudnnPlan make_plan(const CudnnProblem& problem, cudnnHandle_t handle) {
  int major = 0, minor = 0;
  FILIGREE_CHECK_CUDA(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, problem.device));
  FILIGREE_CHECK_CUDA(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, problem.device));
  const auto graph = make_graph(problem, 10 * major + minor, handle);
  FILIGREE_CHECK_CUDNN(graph->create_execution_plans({fe::HeurMode_t::A}));
  FILIGREE_CHECK_CUDNN(graph->check_support());
  FILIGREE_CHECK_CUDNN(graph->build_plans());
  CudnnPlan plan{graph};
  FILIGREE_CHECK_CUDNN(graph->get_workspace_size(plan.workspace_bytes));
  return plan;
}

// Plans by problem, and a handle for each device, which one thread may use at a time. A plan takes
// the library up to seconds, and training repeats a few. When the cache is full, which only a
// stream of ever new shapes brings about, it starts again.
class CudnnLibrary {
 public:
  // Never destroyed: when the process ends, the driver may be gone before it.
  static CudnnLibrary& instance() {
    static CudnnLibrary* const library = new CudnnLibrary;
    return *library;
  }

  void run(const CudnnProblem& problem, Pointers pointers, const ExecutionContext& context) {
    FILIGREE_CHECK_CUDA(cudaSetDevice(problem.device));
    const std::lock_guard lock(mutex_);
    const cudnnHandle_t handle = handle_of(problem.device);
    const CudnnPlan& plan = plan_of(problem, handle);
    const Tensor workspace = context.empty({plan.workspace_bytes}, DType::u8);
    FILIGREE_CHECK_CUDNN(
        cudnnSetStream(handle, static_cast<cudaStream_t>(context.stream->native())));
    FILIGREE_CHECK_CUDNN(plan.graph->execute(handle, pointers, workspace.raw()));
  }

 private:
  cudnnHandle_t handle_of(int device) {
    cudnnHandle_t& handle = handles_[device];
    if (handle == nullptr) FILIGREE_CHECK_CUDNN(cudnnCreate(&handle));
    return handle;
  }
  const CudnnPlan& plan_of(const CudnnProblem& problem, cudnnHandle_t handle) {
    constexpr std::size_t kMaxPlans = 256;
    if (const auto found = plans_.find(problem); found != plans_.end()) return found->second;
    CudnnPlan plan = make_plan(problem, handle);
    if (plans_.size() >= kMaxPlans) plans_.clear();
    return plans_.emplace(problem, std::move(plan)).first->second;
  }

  std::mutex mutex_;
  std::map<int, cudnnHandle_t> handles_;  // by device; the driver's end is theirs too
  std::map<CudnnProblem, CudnnPlan> plans_;
};

std::optional<std::string> reject_shape(const AttentionShape& s, const AttentionPattern& pattern) {
  if (!pattern.is_dense())
    return "dense attention only: no block lists, windows, sinks or documents";
  if (s.head_dim % 8 != 0 || s.head_dim > 128)
    return str("heads of up to 128 in steps of 8, not ", s.head_dim);
  if (s.batch == 0 || s.query_length == 0 || s.key_length == 0)
    return str("no empty sequences: ", s.batch, " of ", s.query_length, " queries and ",
               s.key_length, " keys");
  if (!cudnn_mask(s))
    return str("causal attention whose first query stands at the first key or whose last one at ",
               "the last, not ", s.query_length, " queries from position ", s.query_offset, " of ",
               s.key_length, " keys on");
  return std::nullopt;
}

std::optional<std::string> reject_tensors(std::initializer_list<Tensor> tensors) {
  for (const Tensor& tensor : tensors) {
    if (tensor.dtype() != DType::bf16)
      return str("computes in bf16, not in ", name_of(tensor.dtype()));
    if (reinterpret_cast<std::uintptr_t>(tensor.raw()) % 16 != 0)
      return "tensors aligned to 16 bytes";
  }
  return std::nullopt;
}

std::optional<std::string> reject_forward(const AttentionForward::Arguments& a,
                                          const ExecutionContext&) {
  if (auto reason = reject_tensors({a.q_THK, a.k_TGK, a.v_TGK, a.o_THK})) return reason;
  return reject_shape(a.shape, a.pattern);
}

std::optional<std::string> reject_backward(const AttentionBackward::Arguments& a,
                                           const ExecutionContext&) {
  if (auto reason = reject_tensors(
          {a.q_THK, a.k_TGK, a.v_TGK, a.o_THK, a.do_THK, a.dq_THK, a.dk_TGK, a.dv_TGK}))
    return reason;
  return reject_shape(a.shape, a.pattern);
}

void forward(const AttentionForward::Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  CudnnLibrary::instance().run({context.device.index, a.shape, false, false},
                               {{kQ, a.q_THK.raw()},
                                {kK, a.k_TGK.raw()},
                                {kV, a.v_TGK.raw()},
                                {kO, a.o_THK.raw()},
                                {kLse, a.lse_BHS.raw()}},
                               context);
}

void backward(const AttentionBackward::Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  CudnnLibrary::instance().run({context.device.index, a.shape, true, context.deterministic},
                               {{kQ, a.q_THK.raw()},
                                {kK, a.k_TGK.raw()},
                                {kV, a.v_TGK.raw()},
                                {kO, a.o_THK.raw()},
                                {kLse, a.lse_BHS.raw()},
                                {kDo, a.do_THK.raw()},
                                {kDq, a.dq_THK.raw()},
                                {kDk, a.dk_TGK.raw()},
                                {kDv, a.dv_TGK.raw()}},
                               context);
}

CudnnView view_of_rows(std::int64_t batch, std::int64_t heads, std::int64_t length,
                       std::int64_t width) {
  return {{batch, heads, length, width}, {length * heads * width, width, heads * width, 1}};
}

}  // namespace

CudnnView cudnn_view_of_queries(const AttentionShape& s) {
  return view_of_rows(s.batch, s.query_heads, s.query_length, s.head_dim);
}
CudnnView cudnn_view_of_keys(const AttentionShape& s) {
  return view_of_rows(s.batch, s.kv_heads, s.key_length, s.head_dim);
}
CudnnView cudnn_view_of_lse(const AttentionShape& s) {
  return {{s.batch, s.query_heads, s.query_length, 1},
          {s.query_heads * s.query_length, s.query_length, 1, 1}};
}

std::optional<CudnnMask> cudnn_mask(const AttentionShape& s) {
  if (!s.causal) return CudnnMask::none;
  if (s.query_offset == 0) return CudnnMask::from_first_key;
  if (s.query_offset > 0 && s.query_offset + s.query_length == s.key_length)
    return CudnnMask::to_last_key;
  return std::nullopt;
}

void check_cudnn_attention(const AttentionShape& shape, bool deterministic, int capability) {
  for (const bool backward : {false, true})
    make_graph({0, shape, backward, deterministic}, capability, nullptr);
}

std::optional<LibraryVersion> cudnn_version() {
  const std::size_t version = cudnnGetVersion();
  return LibraryVersion{"cuDNN", str(CUDNN_MAJOR, ".", CUDNN_MINOR, ".", CUDNN_PATCHLEVEL),
                        str(version / 10000, ".", version % 10000 / 100, ".", version % 100)};
}

void add_cudnn_attention(KernelTable& table) {
  constexpr int kPriority = 5;  // below "cuda", which takes everything that is taken here
  table.add<AttentionForward>({"cudnn", DeviceKind::cuda, kPriority, reject_forward, forward});
  table.add<AttentionBackward>({"cudnn", DeviceKind::cuda, kPriority, reject_backward, backward});
}

}  // namespace filigree
