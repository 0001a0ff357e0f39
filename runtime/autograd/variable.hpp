// Variable: a tensor with its placements and the place where its gradient is collected.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/autograd/placement.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

class Variable {
 public:
  Variable() = default;  // undefined

  // A constant, or the output of an op.
  Variable(Tensor value, const Placements& placements, bool requires_gradient = false);

  // A leaf whose gradient accumulates into `gradient` (same shape; its dtype may be wider than the
  // value's) over as many backward passes as the caller likes. Trainable parameters are these.
  static Variable parameter(std::string name, Tensor value, Tensor gradient,
                            const Placements& placements);

  bool defined() const { return slot_ != nullptr; }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  const Placements& placements() const;
  bool requires_gradient() const;
  bool is_parameter() const;
  const std::string& name() const;

  // The gradient collected so far; undefined when nothing has arrived.
  Tensor gradient() const;
  // Where backward put it; empty when nothing has arrived.
  std::optional<Placements> gradient_placements() const;
  // Forgets the collected gradient. A parameter's buffer is kept; the next contribution overwrites
  // it.
  void clear_gradient() const;
  // Declares that the collected gradient is now placed as given: called by the reducer once partial
  // sums have been added up.
  void set_gradient_placements(const Placements& placements) const;

  bool same_as(const Variable& other) const { return slot_ == other.slot_; }
  const void* id() const { return slot_.get(); }

  // A leaf with the same value whose gradient is collected apart from this one's (recompute
  // regions).
  Variable detached() const;

 private:
  friend class Tape;
  friend class BackwardContext;
  struct Slot;
  Tensor value_;
  std::shared_ptr<Slot> slot_;
};

}  // namespace filigree
