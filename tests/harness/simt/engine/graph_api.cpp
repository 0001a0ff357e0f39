// Capture of streams into graphs, and their launch: nodes run in a random order that edges allow.
#include <algorithm>

#include "tests/harness/simt/engine/api.hpp"

struct CUgraph_st {
  std::shared_ptr<const simt::Capture> captured;
};

struct CUgraphExec_st {
  std::shared_ptr<const simt::Capture> captured;
  std::vector<std::shared_ptr<const std::vector<bool>>> ancestors;  // [node][other node]
};

namespace simt {
namespace {

using Ancestors = std::vector<std::shared_ptr<const std::vector<bool>>>;

Ancestors ancestors_of(const Capture& capture) {
  Ancestors all;
  for (const auto& node : capture.nodes) {
    auto own = std::make_shared<std::vector<bool>>(capture.nodes.size(), false);
    for (const std::size_t before : node.after) {
      (*own)[before] = true;
      for (std::size_t i = 0; i < before; ++i) {
        if ((*all[before])[i]) (*own)[i] = true;
      }
    }
    all.push_back(std::move(own));
  }
  return all;
}

// One launch.
class GraphOperation : public Operation {
 public:
  GraphOperation(std::shared_ptr<const Capture> captured, Ancestors ancestors, std::uint64_t number)
      : captured_(std::move(captured)),
        ancestors_(std::move(ancestors)),
        number_(number),
        done_(captured_->nodes.size(), false) {
    for (const auto& node : captured_->nodes) {
      std::shared_ptr<Operation> own = node.operation->instance();
      operations_.push_back(own == nullptr ? node.operation : std::move(own));
    }
  }

  Progress advance(Machine& machine, int device, const Place& place) override {
    if (left_ == 0) return Progress::done;
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < done_.size(); ++i) {
      const auto& after = captured_->nodes[i].after;
      if (!done_[i] && std::all_of(after.begin(), after.end(),
                                   [&](std::size_t before) { return done_[before]; })) {
        ready.push_back(i);
      }
    }
    while (!ready.empty()) {
      std::size_t& drawn = ready[machine.random().below(static_cast<std::uint32_t>(ready.size()))];
      const std::size_t i = drawn;
      drawn = ready.back();
      ready.pop_back();
      Place inner = place;
      inner.name = operations_[i]->name() + " (graph node " + std::to_string(i) + ")";
      inner.graph_launch = number_;
      inner.node = i;
      inner.ancestors = ancestors_[i];
      const Progress progress = operations_[i]->advance(machine, device, inner);
      if (progress == Progress::blocked) continue;
      if (progress == Progress::done) {
        done_[i] = true;
        --left_;
      }
      return left_ == 0 ? Progress::done : Progress::progressed;
    }
    return Progress::blocked;
  }

  std::string name() const override { return "cudaGraphLaunch"; }
  std::string waits_for() const override {
    for (std::size_t i = 0; i < done_.size(); ++i) {
      if (!done_[i]) return operations_[i]->waits_for() + " in a graph";
    }
    return name();
  }

 private:
  std::shared_ptr<const Capture> captured_;
  Ancestors ancestors_;
  std::uint64_t number_;
  std::vector<std::shared_ptr<Operation>> operations_;
  std::vector<bool> done_;
  std::size_t left_ = done_.size();
};

// Whether every captured operation comes before the end of the stream that began the capture.
bool all_joined(const Capture& capture, const std::vector<std::size_t>& tail) {
  const Ancestors ancestors = ancestors_of(capture);
  for (std::size_t i = 0; i < capture.nodes.size(); ++i) {
    const bool joined = std::any_of(tail.begin(), tail.end(), [&](std::size_t last) {
      return last == i || (*ancestors[last])[i];
    });
    if (!joined) return false;
  }
  return true;
}

}  // namespace
}  // namespace simt

using simt::Call;
using simt::result;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaStreamBeginCapture");
  if (target.capture != nullptr) return result(cudaErrorInvalidValue);
  target.capture = std::make_shared<simt::Capture>();
  target.capture->mode = mode;
  target.capture_origin = true;
  target.capture_tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaStreamEndCapture");
  *graph = nullptr;
  if (target.capture == nullptr || !target.capture_origin) {
    return result(cudaErrorStreamCaptureUnmatched);
  }
  const std::shared_ptr<simt::Capture> capture = target.capture;
  const bool joined = simt::all_joined(*capture, target.capture_tail);
  for (const auto& other : call.machine.streams()) {
    if (other->capture != capture) continue;
    other->capture = nullptr;
    other->capture_origin = false;
    other->capture_tail.clear();
  }
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  if (!joined) return result(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Call call;
  const CUstream_st& target = call.machine.stream(stream, "cudaStreamIsCapturing");
  *status = target.capture == nullptr ? cudaStreamCaptureStatusNone
            : target.capture->invalid ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  if (graph == nullptr) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->captured, simt::ancestors_of(*graph->captured)};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  if (executable == nullptr) return result(cudaErrorInvalidValue);
  CUstream_st& target = call.machine.stream(stream, "cudaGraphLaunch");
  if (target.capture != nullptr) return result(cudaErrorStreamCaptureUnsupported);
  call.machine.enqueue(
      target, std::make_shared<simt::GraphOperation>(executable->captured, executable->ancestors,
                                                     call.machine.next_number()));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Call call;
  delete graph;
  call.machine.notify();
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Call call;
  delete executable;
  call.machine.notify();
  return cudaSuccess;
}
