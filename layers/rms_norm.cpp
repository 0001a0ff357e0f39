#include "layers/rms_norm.hpp"

namespace filigree {
namespace {

std::size_t add_weight(const std::string& name, std::int64_t width, Placement on_tensor,
                       const Mesh& mesh, ParameterStore& store) {
  Parameter weight = make_parameter(name + ".weight", 0, width, on_tensor, mesh);
  weight.initialisation.mean = 1.0;
  weight.decays = false;
  return store.add(std::move(weight));
}

}  // namespace

RmsNorm::RmsNorm(const std::string& name, std::int64_t width, double eps, const Mesh& mesh,
                 ParameterStore& store)
    : store_(&store),
      weight_(add_weight(name, width, Placement::invariant(), mesh, store)),
      eps_(eps) {}

Variable RmsNorm::forward(Tape& tape, const Variable& x) const {
  return rms_norm(tape, x, store_->variable(weight_), eps_);
}

// Every tensor rank holds the weight and normalises heads of its own: the gradient is partial.
HeadRmsNorm::HeadRmsNorm(const std::string& name, std::int64_t head_dim, double eps,
                         const Mesh& mesh, ParameterStore& store)
    : store_(&store),
      weight_(add_weight(name, head_dim, Placement::replicated(), mesh, store)),
      eps_(eps) {}

Variable HeadRmsNorm::forward(Tape& tape, const Variable& x) const {
  return head_rms_norm(tape, x, store_->variable(weight_), eps_);
}

}  // namespace filigree
