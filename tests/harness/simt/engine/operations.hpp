// What streams hold, apart from collectives and graphs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {

// An operation that needs nothing but its turn.
class Step : public Operation {
 public:
  using Body = std::function<void(Machine& machine, int device)>;
  Step(std::string name, Body body) : name_(std::move(name)), body_(std::move(body)) {}
  Progress advance(Machine& machine, int device, const Place& place) override {
    machine.begin(device, place);
    body_(machine, device);
    return Progress::done;
  }
  std::string name() const override { return name_; }

 private:
  std::string name_;
  Body body_;
};

class KernelOperation : public Operation {
 public:
  KernelOperation(const detail::Kernel& kernel, const LaunchShape& shape);
  ~KernelOperation() override { kernel_.destroy(kernel_.arguments); }
  Progress advance(Machine& machine, int device, const Place& place) override;
  std::string name() const override;

 private:
  detail::Kernel kernel_;
  LaunchShape shape_;
};

// Fills the event's record at its turn.
class RecordOperation : public Operation {
 public:
  explicit RecordOperation(std::shared_ptr<EventRecord> record) : record_(std::move(record)) {}
  Progress advance(Machine& machine, int device, const Place& place) override;
  std::string name() const override { return "cudaEventRecord"; }

 private:
  std::shared_ptr<EventRecord> record_;
};

class WaitOperation : public Operation {
 public:
  explicit WaitOperation(std::shared_ptr<EventRecord> record) : record_(std::move(record)) {}
  Progress advance(Machine&, int, const Place&) override {
    return record_->done ? Progress::done : Progress::blocked;
  }
  std::string name() const override { return "cudaStreamWaitEvent"; }
  std::string waits_for() const override { return "an event that another stream records"; }

 private:
  std::shared_ptr<EventRecord> record_;
};

// `bytes` from `from` to `to`, either of which may be device memory. Host memory is touched when
// the copy runs, except that a source that is not pinned is read now.
std::shared_ptr<Operation> copy_operation(Machine& machine, void* to, const void* from,
                                          std::size_t bytes);
std::shared_ptr<Operation> fill_operation(void* to, int value, std::size_t bytes);

// Checks and then moves, for use inside operations.
void checked_copy(Machine& machine, void* to, const void* from, std::size_t bytes);

}  // namespace simt
