#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/optimizer/update_factors.hpp"

namespace filigree {
namespace {

struct Scalars {
  const double *loss, *squares, *rate;
  long long* updates;
  double *norms, *factors;
  double clip_norm, beta1, beta2;
};

__global__ void update_factors_kernel(Scalars s) {
  const bool is_finite = isfinite(*s.loss) && isfinite(s.squares[0] + s.squares[1] + s.squares[2]);
  if (is_finite) ++*s.updates;
  const auto step = static_cast<double>(*s.updates);
  for (int i = 0; i < 2; ++i) {
    const double norm = is_finite ? sqrt(s.squares[i]) : nan("");
    s.norms[i] = norm;
    double* const factors = s.factors + i * kUpdateFactors;
    factors[kRate] = *s.rate;
    factors[kGradientScale] = !is_finite                              ? norm
                              : s.clip_norm > 0 && norm > s.clip_norm ? s.clip_norm / norm
                                                                      : 1.0;
    factors[kCorrection1] = 1 - pow(s.beta1, step);
    factors[kCorrection2] = 1 - pow(s.beta2, step);
  }
}

}  // namespace

void UpdateFactors::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, {1, 1}, update_factors_kernel,
         Scalars{.loss = device_data<double>(a.loss),
                 .squares = device_data<double>(a.squares),
                 .rate = device_data<double>(a.rate),
                 .updates = device_data<long long>(a.updates),
                 .norms = device_data<double>(a.norms),
                 .factors = device_data<double>(a.factors),
                 .clip_norm = a.clip_norm,
                 .beta1 = a.beta1,
                 .beta2 = a.beta2});
}

}  // namespace filigree
