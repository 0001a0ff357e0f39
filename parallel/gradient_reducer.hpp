// Turns the gradients that backward left on each rank into the gradients of the whole job.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// For every parameter and every axis on which its gradient arrived as partial, the sum over that
// axis: derived from the placements that backward produced, never from a list. Parameters are
// grouped into buckets of consecutive gradients; a bucket whose parameters are all ready starts its
// data-axis all-reduce while backward goes on.
//
// Buckets start from the last to the first, whatever order gradients become ready in, so that all
// ranks launch the same collectives in the same order. Sums over the other axes follow in finish().
// A bucket whose parameters are partial on different axes is reduced in runs of equal ones; gaps
// between parameters of a run are summed with them.
//
// Precondition: the gradient buffers lie in `flat` in the order of `parameters`, without overlap,
// gaps between them hold numbers; every rank has the same parameters in the same order. The mesh
// must outlive the reducer.
class GradientReducer {
 public:
  struct Options {
    std::int64_t bucket_bytes = 4 << 20;
  };
  GradientReducer(const Mesh& mesh, std::vector<Variable> parameters, Tensor flat, Options options);

  // Hooks the last backward pass of a step; the hook lives until finish(), and the tape must live
  // until then.
  void attach(Tape& tape);
  // Reduces what is left and waits for what is in flight. Afterwards no gradient is partial on any
  // axis. Throws InternalError that names the parameters no gradient has reached.
  void finish();

 private:
  // Consecutive parameters [first, last) whose gradients are partial on the same axes.
  struct Run {
    std::size_t first, last;
    Tensor elements;  // from the first gradient's begin to the last one's end
    Pending pending;  // the sum over the data axis
  };
  struct Bucket {
    std::size_t first, last;  // parameters [first, last)
    std::size_t ready = 0;
    std::vector<Run> runs = {};
  };
  void mark_ready(const Variable& parameter);
  void start_ready_buckets();
  void start(Bucket& bucket);
  void finish(Run& run);
  void check_all_reached() const;
  bool must_sum(const Run& run, Axis axis) const;
  std::int64_t begin_of(std::size_t parameter) const;  // of its gradient, in elements of flat_

  const Mesh& mesh_;
  std::vector<Variable> parameters_;
  Tensor flat_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const void*, std::size_t> bucket_of_;  // by parameter id
  std::size_t unstarted_ = 0;  // buckets [0, unstarted_) have not started
  Tape* tape_ = nullptr;
};

}  // namespace filigree
