#include "runtime/autograd/variable.hpp"

#include "runtime/autograd/slot.hpp"

namespace filigree {

Variable::Variable(Tensor value, const Placements& placements, bool requires_gradient)
    : value_(std::move(value)), slot_(std::make_shared<Slot>()) {
  slot_->placements = placements;
  slot_->shape = value_.shape();
  slot_->gradient_dtype = value_.dtype();
  slot_->requires_gradient = requires_gradient;
}

Variable Variable::parameter(std::string name, Tensor value, Tensor gradient,
                             const Placements& placements) {
  FILIGREE_CHECK_EQ(value.shape(), gradient.shape(), "gradient buffer of ", name);
  Variable result(std::move(value), placements, true);
  result.slot_->name = std::move(name);
  result.slot_->gradient_dtype = gradient.dtype();
  result.slot_->gradient = std::move(gradient);
  result.slot_->is_parameter = true;
  return result;
}

const Placements& Variable::placements() const {
  FILIGREE_CHECK(defined(), "undefined variable");
  return slot_->placements;
}

bool Variable::requires_gradient() const { return defined() && slot_->requires_gradient; }
bool Variable::is_parameter() const { return defined() && slot_->is_parameter; }

const std::string& Variable::name() const {
  FILIGREE_CHECK(defined(), "undefined variable");
  return slot_->name;
}

Tensor Variable::gradient() const {
  FILIGREE_CHECK(defined(), "undefined variable");
  return slot_->has_gradient ? slot_->gradient : Tensor();
}

std::optional<Placements> Variable::gradient_placements() const {
  FILIGREE_CHECK(defined(), "undefined variable");
  return slot_->gradient_placements;
}

void Variable::clear_gradient() const {
  slot_->has_gradient = false;
  slot_->gradient_placements.reset();
  slot_->gradient_is_shared = false;
  if (!slot_->is_parameter) slot_->gradient = Tensor();
}

void Variable::set_gradient_placements(const Placements& placements) const {
  FILIGREE_CHECK(slot_->has_gradient, "no gradient has arrived for ", slot_->name);
  slot_->gradient_placements = placements;
}

Variable Variable::detached() const { return Variable(value_, placements(), requires_gradient()); }

}  // namespace filigree
