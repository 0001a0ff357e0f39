// Matrix product through oneDNN, versions 2 and 3. Everything that names the library is in this
// file.
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>

#include "kernels/cpu/parallel_for.hpp"
#include "kernels/matmul/matmul_implementations.hpp"
#include "kernels/matmul/onednn_version.hpp"

namespace filigree {

namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine result(dnnl::engine::kind::cpu, 0);
  return result;
}

struct Problem {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, has_bias;
  DType in, out;
  int threads;  // oneDNN divides the work when a primitive is made
  auto key() const {
    return std::tie(m, n, k, transpose_a, transpose_b, accumulate, has_bias, in, out, threads);
  }
  bool operator<(const Problem& other) const { return key() < other.key(); }
};

struct Plan {
  dnnl::primitive primitive;
  memory::desc a, b, bias, c, scratchpad;
};

memory::data_type data_type(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc matrix(std::int64_t rows, std::int64_t columns, bool transposed, DType dtype) {
  return {{rows, columns},
          data_type(dtype),
          transposed ? memory::dims{1, rows} : memory::dims{columns, 1}};
}

// Empty when oneDNN has no implementation.
dnnl::matmul::primitive_desc describe(const Problem& p) {
  const memory::desc a = matrix(p.m, p.k, p.transpose_a, p.in);
  const memory::desc b = matrix(p.k, p.n, p.transpose_b, p.in);
  const memory::desc c = matrix(p.m, p.n, false, p.out);
  // An empty description stands for no bias.
  const memory::desc bias = p.has_bias ? matrix(1, p.n, false, p.out) : memory::desc();
  dnnl::primitive_attr attributes;
  // Scratch memory from our allocator: counted, and one primitive can run on several threads at
  // once.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.accumulate) {
    dnnl::post_ops operations;
    operations.append_sum(1.0f);
    attributes.set_post_ops(operations);
  }
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::matmul::primitive_desc(engine(), a, b, bias, c, attributes, true);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, bias, c), attributes, engine(),
                                      true);
#endif
}

Plan make_plan(const Problem& problem) {
  const dnnl::matmul::primitive_desc description = describe(problem);
  FILIGREE_CHECK(bool(description), "oneDNN has no matmul for ", problem.m, " x ", problem.n, " x ",
                 problem.k);
  return {dnnl::matmul(description), description.src_desc(), description.weights_desc(),
          description.bias_desc(),   description.dst_desc(), description.scratchpad_desc()};
}

// A training step repeats a few dozen shapes. When the cache is full, which only a stream of ever
// new shapes brings about, it starts again.
Plan plan_for(const Problem& problem) {
  constexpr std::size_t kMaxPlans = 1024;
  static std::mutex mutex;
  static std::map<Problem, Plan> plans;
  const std::lock_guard lock(mutex);
  const auto found = plans.find(problem);
  if (found != plans.end()) return found->second;
  if (plans.size() >= kMaxPlans) plans.clear();
  return plans.emplace(problem, make_plan(problem)).first->second;
}

// oneDNN multiplies bf16 on any processor, but where it lacks the instructions only by its
// reference loops.
const std::optional<std::string>& bf16_problem() {
  static const std::optional<std::string> result = []() -> std::optional<std::string> {
    const auto description = describe({128, 128, 128, false, false, false, false, DType::bf16,
                                       DType::bf16, omp_get_max_threads()});
    if (!description) return "oneDNN has no bf16 product on this processor";
    const std::string_view name = description.impl_info_str();
    if (name.find("ref") != std::string_view::npos)
      return str("oneDNN has only reference loops (", name, ") for bf16 on this processor");
    return std::nullopt;
  }();
  return result;
}

}  // namespace

LibraryVersion onednn_version() {
  const dnnl_version_t& loaded = *dnnl_version();
  return {"oneDNN", str(DNNL_VERSION_MAJOR, ".", DNNL_VERSION_MINOR, ".", DNNL_VERSION_PATCH),
          str(loaded.major, ".", loaded.minor, ".", loaded.patch)};
}

std::optional<std::string> matmul_onednn_reject(const Matmul::Arguments& a,
                                                const ExecutionContext&) {
  if (a.a.dtype() == DType::f64) return "oneDNN multiplies f32 and bf16, not f64";
  if (a.a.dtype() == DType::bf16) return bf16_problem();
  return std::nullopt;
}

void matmul_onednn(const Matmul::Arguments& a, ExecutionContext& context) {
  const auto [m, n, k] = matmul_sizes(a);
  const OpenMpThreads threads(context.num_threads);
  const Plan plan = plan_for({m, n, k, a.transpose_a, a.transpose_b, a.accumulate, a.bias.defined(),
                              a.a.dtype(), a.c.dtype(), context.num_threads});
  const Tensor scratch =
      context.empty({static_cast<std::int64_t>(plan.scratchpad.get_size())}, DType::u8);
  dnnl::stream stream(engine());
  std::unordered_map<int, memory> memories = {
      {DNNL_ARG_SRC, memory(plan.a, engine(), a.a.raw())},
      {DNNL_ARG_WEIGHTS, memory(plan.b, engine(), a.b.raw())},
      {DNNL_ARG_DST, memory(plan.c, engine(), a.c.raw())},
      {DNNL_ARG_SCRATCHPAD, memory(plan.scratchpad, engine(), scratch.raw())}};
  if (a.bias.defined()) memories.emplace(DNNL_ARG_BIAS, memory(plan.bias, engine(), a.bias.raw()));
  plan.primitive.execute(stream, memories);
  stream.wait();
}

}  // namespace filigree
