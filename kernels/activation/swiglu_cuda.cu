#include "kernels/activation/swiglu.hpp"
#include "kernels/cuda/map.hpp"

namespace filigree {
namespace {

struct Forward {
  __device__ void operator()(std::int64_t, const float (&x)[2], float (&y)[1]) const {
    y[0] = x[0] / (1.0f + expf(-x[0])) * x[1];
  }
};

struct Backward {
  __device__ void operator()(std::int64_t, const float (&x)[3], float (&y)[2]) const {
    const float gate = x[0], up = x[1], dy = x[2];
    const float s = 1.0f / (1.0f + expf(-gate));
    y[0] = dy * up * s * (1.0f + gate * (1.0f - s));
    y[1] = dy * gate * s;
  }
};

}  // namespace

void SwigluForward::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.gate_TF, a.up_TF}, {a.y_TF}, Forward{});
}

void SwigluBackward::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.gate_TF, a.up_TF, a.dy_TF}, {a.dgate_TF, a.dup_TF}, Backward{});
}

}  // namespace filigree
