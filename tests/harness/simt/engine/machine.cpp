#include "tests/harness/simt/engine/machine.hpp"

#include <algorithm>
#include <chrono>

#include "tests/harness/simt/engine/host_guard.hpp"

namespace simt {

thread_local int current_device = 0;
thread_local bool this_thread_works = false;

Machine& Machine::instance() {
  // Never destroyed: objects of static storage may free device memory after main().
  static Machine* const machine = new Machine();
  return *machine;
}

Machine::Machine() : check_(memory_, clock_), block_(random_, clock_), devices_(1) {
  install_host_guard(memory_, block_.stacks());
}

void Machine::reset(const Options& options) {
  options_ = options;
  waits_ = 0;
  random_ = Random(options.seed);
  devices_.assign(options.devices, Device());
  streams_.clear();
  all_streams_.clear();
  pinned_.clear();
  shared_limits_.clear();
  memory_.clear();
  check_.enable(options.check_memory);
}

CUstream_st* Machine::add_stream(int device, bool blocking) {
  auto stream = std::make_unique<CUstream_st>();
  stream->number = all_streams_.size();
  stream->device = device;
  stream->blocking = blocking;
  streams_.insert(stream.get());
  all_streams_.push_back(std::move(stream));
  return all_streams_.back().get();
}

CUstream_st& Machine::stream(cudaStream_t handle, const char* call) {
  const auto value = reinterpret_cast<std::uintptr_t>(handle);
  if (value <= 2) {
    throw Fault(std::string(call) + ": the default stream is not used here; give a stream");
  }
  if (streams_.count(handle) == 0) throw Fault(std::string(call) + ": this stream does not exist");
  return *handle;
}

void Machine::remove_stream(cudaStream_t handle) {
  streams_.erase(handle);  // what is queued still runs, as in CUDA
}

void Machine::enqueue(CUstream_st& stream, std::shared_ptr<Operation> operation) {
  if (stream.capture != nullptr) {
    auto& nodes = stream.capture->nodes;
    nodes.push_back({std::move(operation), stream.capture_tail});
    stream.capture_tail = {nodes.size() - 1};
    return;
  }
  if (devices_[stream.device].failed) return;
  stream.known.join(devices_[stream.device].host);
  stream.known.set(stream.number, ++stream.sequence);
  Place place;
  place.name = operation->name();
  place.stream = stream.number;
  place.sequence = stream.sequence;
  place.clock = stream.known;
  stream.queue.push_back({std::move(operation), std::move(place)});
  notify();
}

bool Machine::usable(int device) {
  Device& d = devices_[device];
  if (!d.fault.empty() && this_thread_works) throw Fault(std::exchange(d.fault, {}));
  return !d.failed;
}

void Machine::fail(int device, const std::string& what) {
  Device& d = devices_[device];
  if (!d.failed) d.fault = what;
  d.failed = true;
  for (const auto& stream : all_streams_) {
    if (stream->device == device) stream->queue.clear();
  }
  notify();
}

void Machine::begin(int device, const Place& place) {
  clock_ += 2;
  devices_[device].history.begin(place, clock_ - 1);
  check_.begin_operation(devices_[device].history);
}

// Advances one operation at the head of a stream; false when all of them wait.
bool Machine::step() {
  std::vector<CUstream_st*> heads;
  for (const auto& stream : all_streams_) {
    if (!stream->queue.empty()) heads.push_back(stream.get());
  }
  while (!heads.empty()) {
    CUstream_st*& drawn = heads[random_.below(static_cast<std::uint32_t>(heads.size()))];
    CUstream_st& stream = *drawn;
    drawn = heads.back();
    heads.pop_back();
    const Queued head = stream.queue.front();
    Progress progress = Progress::blocked;
    try {
      progress = head.operation->advance(*this, stream.device, head.place);
    } catch (const Fault& fault) {
      fail(stream.device, fault.what());
      return true;
    }
    if (progress == Progress::done && !stream.queue.empty()) stream.queue.pop_front();
    if (progress != Progress::blocked) {
      notify();
      return true;
    }
  }
  return false;
}

std::string Machine::blocked_text() const {
  std::string text;
  for (const auto& stream : all_streams_) {
    if (stream->queue.empty()) continue;
    text += (text.empty() ? "" : "; ") + ("stream " + std::to_string(stream->number)) +
            " of device " + std::to_string(stream->device) + " waits for " +
            stream->queue.front().operation->waits_for();
  }
  return text;
}

void Machine::drain(std::unique_lock<std::mutex>& lock, int device,
                    const std::function<bool()>& done) {
  ++waits_;
  struct Opened {
    explicit Opened(DeviceMemory& memory) : memory_(memory) { memory_.open(); }
    ~Opened() { memory_.close(); }
    DeviceMemory& memory_;
  } opened(memory_);
  const std::chrono::duration<double> patience(options_.peer_timeout_seconds);
  while (usable(device) && !done()) {
    if (step()) continue;
    memory_.close();
    const std::uint64_t before = changes_;
    const bool moved = changed_.wait_for(lock, patience, [&] { return changes_ != before; });
    memory_.open();
    if (!moved) fail(device, "nothing has moved for too long: " + blocked_text());
  }
}

void Machine::drain_once(int device) {
  if (!usable(device)) return;
  memory_.open();
  step();
  memory_.close();
}

void Machine::run_alone(int device, Operation& operation) {
  Place place;
  place.name = operation.name();
  place.stream = ~std::size_t{0} >> 1;
  place.clock = devices_[device].host;
  memory_.open();
  try {
    operation.advance(*this, device, place);
  } catch (...) {
    memory_.close();
    throw;
  }
  memory_.close();
}

void Machine::device_synchronised(int device) {
  for (const auto& stream : all_streams_) {
    if (stream->device == device) host_knows(device, stream->known);
  }
}

void Machine::host_knows(int device, const Clock& clock) {
  if (!this_thread_works) return;
  devices_[device].host.join(clock);
  // What is queued already was not enqueued in this knowledge, and is checked against all of it.
  if (idle(device)) devices_[device].history.forget(devices_[device].host);
}

bool Machine::idle(int device) const {
  return std::all_of(all_streams_.begin(), all_streams_.end(), [&](const auto& stream) {
    return stream->device != device || stream->queue.empty();
  });
}

bool Machine::capturing() const {
  return std::any_of(streams_.begin(), streams_.end(), [](const CUstream_st* stream) {
    if (stream->capture == nullptr) return false;
    const Capture& capture = *stream->capture;
    return capture.mode == cudaStreamCaptureModeGlobal ||
           (capture.mode == cudaStreamCaptureModeThreadLocal &&
            capture.thread == std::this_thread::get_id());
  });
}

bool Machine::is_pinned(const void* pointer) const {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const auto after = pinned_.upper_bound(address);
  if (after == pinned_.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return address - begin < bytes;
}

void reset(const Options& options) {
  auto lock = Machine::instance().lock();
  Machine::instance().reset(options);
}

const Options& options() { return Machine::instance().options(); }

std::uint64_t host_waits() {
  auto lock = Machine::instance().lock();
  return Machine::instance().waits();
}

}  // namespace simt
