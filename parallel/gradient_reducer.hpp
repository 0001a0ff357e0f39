// Turns the gradients that backward left on each rank into the gradients of the whole job.
#pragma once

#include <memory>
#include <vector>

#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// For every parameter and every axis on which its gradient arrived as partial, the sum over that axis: derived from the
// placements that backward produced, never from a list. Parameters are grouped into buckets of consecutive
// gradients; a bucket whose parameters are all ready starts its data-axis all-reduce while backward goes on.
//
// Precondition: the gradients lie one after another in `flat`, in the order of `parameters`; every rank has the
// same parameters in the same order.
class GradientReducer {
 public:
  struct Options {
    std::int64_t bucket_bytes = 4 << 20;
  };
  GradientReducer(const Mesh& mesh, std::vector<Variable> parameters, Tensor flat, Options options);

  // Hooks the last backward pass of a step; the hook lives until finish().
  void attach(Tape& tape);
  // Reduces what is left and waits for what is in flight. Afterwards no gradient is partial on any axis.
  void finish();

 private:
  struct Bucket {
    std::size_t first, last;  // parameters [first, last)
    std::int64_t begin, end;  // elements of flat_
    std::size_t ready = 0;
    bool started = false;
    std::vector<Pending> pending;
  };
  void mark_ready(const Variable& parameter);
  void start(Bucket& bucket);

  const Mesh& mesh_;
  std::vector<Variable> parameters_;
  Tensor flat_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;
};

}  // namespace filigree
