#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/cuda/map.hpp"

namespace filigree {
namespace {

struct Forward {
  __device__ void operator()(std::int64_t, const float (&x)[2], float (&y)[1]) const {
    y[0] = x[0] / (1.0f + expf(-x[1]));
  }
};

struct Backward {
  __device__ void operator()(std::int64_t, const float (&in)[3], float (&out)[2]) const {
    const float x = in[0], dy = in[2], s = 1.0f / (1.0f + expf(-in[1]));
    out[0] = dy * s;
    out[1] = dy * x * s * (1.0f - s);
  }
};

}  // namespace

void SigmoidGateForward::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.x_TF, a.gate_TF}, {a.y_TF}, Forward{});
}

void SigmoidGateBackward::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.x_TF, a.gate_TF, a.dy_TF}, {a.dx_TF, a.dgate_TF}, Backward{});
}

}  // namespace filigree
