#include <cmath>
#include <limits>

#include "kernels/optimizer/update_factors.hpp"

namespace filigree {

void UpdateFactors::reference(const Arguments& a, ExecutionContext&) {
  const double loss = *a.loss.data<double>(), rate = *a.rate.data<double>();
  const double* squares = a.squares.data<double>();
  std::int64_t& updates = *a.updates.data<std::int64_t>();
  const bool is_finite = std::isfinite(loss) && std::isfinite(squares[0] + squares[1] + squares[2]);
  if (is_finite) ++updates;
  const auto step = static_cast<double>(updates);
  for (int i = 0; i < 2; ++i) {
    const double norm =
        is_finite ? std::sqrt(squares[i]) : std::numeric_limits<double>::quiet_NaN();
    a.norms.data<double>()[i] = norm;
    double* factors = a.factors.data<double>() + i * kUpdateFactors;
    factors[kRate] = rate;
    factors[kGradientScale] = !is_finite                              ? norm
                              : a.clip_norm > 0 && norm > a.clip_norm ? a.clip_norm / norm
                                                                      : 1.0;
    factors[kCorrection1] = 1 - std::pow(a.beta1, step);
    factors[kCorrection2] = 1 - std::pow(a.beta2, step);
  }
}

}  // namespace filigree
