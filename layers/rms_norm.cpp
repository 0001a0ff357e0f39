#include "layers/rms_norm.hpp"

namespace filigree {

RmsNorm::RmsNorm(const std::string& name, std::int64_t width, double eps, const Mesh& mesh,
                 ParameterStore& store)
    : store_(&store), eps_(eps) {
  Parameter weight = make_parameter(name + ".weight", 0, width, Placement::invariant(), mesh);
  weight.initialisation.mean = 1.0;
  weight.decays = false;
  weight_ = store.add(std::move(weight));
}

Variable RmsNorm::forward(Tape& tape, const Variable& x) const {
  return rms_norm(tape, x, store_->variable(weight_), eps_);
}

}  // namespace filigree
