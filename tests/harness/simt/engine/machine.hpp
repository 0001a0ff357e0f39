// The emulated node: devices, their streams, and the one lock under which everything runs.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <simt/runtime_api.hpp>

#include "tests/harness/simt/engine/block.hpp"
#include "tests/harness/simt/engine/device_memory.hpp"
#include "tests/harness/simt/engine/history.hpp"
#include "tests/harness/simt/engine/memory_check.hpp"
#include "tests/harness/simt/engine/random.hpp"

namespace simt {

class Machine;

enum class Progress : std::uint8_t { blocked, progressed, done };

// Something in a stream.
class Operation {
 public:
  virtual ~Operation() = default;
  // Goes on as far as it can. Throws Fault.
  virtual Progress advance(Machine& machine, int device, const Place& place) = 0;
  // What runs when a graph is launched that has captured this: itself unless it has state of its
  // own.
  virtual std::shared_ptr<Operation> instance() { return nullptr; }
  virtual std::string name() const = 0;
  // What it waits for, when blocked.
  virtual std::string waits_for() const { return name(); }
};

struct Queued {
  std::shared_ptr<Operation> operation;
  Place place;
};

// One cudaEventRecord.
struct EventRecord {
  int device = 0;
  bool done = false;
  Clock clock;
  double milliseconds = 0;
};

// Operations captured so far; node i runs after the nodes of edges[i].
struct Capture {
  struct Node {
    std::shared_ptr<Operation> operation;
    std::vector<std::size_t> after;
  };
  std::vector<Node> nodes;
  bool invalid = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = std::this_thread::get_id();  // that has begun it
};

struct Device {
  History history;
  Clock host;           // what the host has waited for
  std::string fault;    // to be thrown by the next call
  bool failed = false;  // a fault was thrown: nothing runs any more
};

class Machine {
 public:
  static Machine& instance();

  void reset(const Options& options);

  // --- All below under the lock. ---
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

  CUstream_st* add_stream(int device, bool blocking);
  // The stream of a handle; throws Fault for the default stream and for what is no stream.
  CUstream_st& stream(cudaStream_t handle, const char* call);
  bool knows(cudaStream_t handle) const { return streams_.count(handle) != 0; }
  void remove_stream(cudaStream_t handle);
  void enqueue(CUstream_st& stream, std::shared_ptr<Operation> operation);

  // Throws a waiting fault of `device` where the calling thread works; false when it has failed.
  bool usable(int device);
  // Runs operations, in a random order that streams and events allow, until `done`.
  void drain(std::unique_lock<std::mutex>& lock, int device, const std::function<bool()>& done);
  // Runs at most one operation.
  void drain_once(int device);
  // Runs one operation apart from any stream, ordered after what the host has waited for only.
  void run_alone(int device, Operation& operation);
  void device_synchronised(int device);
  // The host has waited for what `clock` holds: later operations come after it. What a thread that
  // only asks has seen orders nothing, since it would have to tell the others.
  void host_knows(int device, const Clock& clock);
  bool idle(int device) const;
  // Whether a capture forbids this thread what cannot be captured.
  bool capturing() const;
  void fail(int device, const std::string& what);
  void notify() {
    ++changes_;
    changed_.notify_all();
  }

  // Begins the operation at `place` for the checks.
  void begin(int device, const Place& place);

  const Options& options() const { return options_; }
  Random& random() { return random_; }
  std::uint64_t& clock() { return clock_; }
  DeviceMemory& memory() { return memory_; }
  MemoryCheck& check() { return check_; }
  Block& block() { return block_; }
  Device& device(int i) { return devices_[i]; }
  const std::vector<std::unique_ptr<CUstream_st>>& streams() const { return all_streams_; }
  std::map<std::uintptr_t, std::size_t>& pinned() { return pinned_; }
  bool is_pinned(const void* pointer) const;
  std::map<const void*, int>& shared_limits() { return shared_limits_; }
  std::uint64_t next_number() { return ++numbers_; }
  std::uint64_t waits() const { return waits_; }

 private:
  Machine();
  bool step();
  std::string blocked_text() const;

  std::mutex mutex_;
  std::condition_variable changed_;
  Options options_;
  Random random_;
  std::uint64_t clock_ = 1, numbers_ = 0, changes_ = 0, waits_ = 0;
  DeviceMemory memory_;
  MemoryCheck check_;
  Block block_;
  std::vector<Device> devices_;
  std::set<CUstream_st*> streams_;
  std::vector<std::unique_ptr<CUstream_st>> all_streams_;  // destroyed ones too
  std::map<std::uintptr_t, std::size_t> pinned_;
  std::map<const void*, int> shared_limits_;
};

// The device that the calling thread has chosen.
extern thread_local int current_device;
// Whether the calling thread has ever done more than ask how far things are.
extern thread_local bool this_thread_works;

}  // namespace simt

struct CUstream_st {
  std::size_t number = 0;
  int device = 0;
  bool blocking = false;
  std::deque<simt::Queued> queue;
  simt::Clock known;
  std::uint64_t sequence = 0;
  std::shared_ptr<simt::Capture> capture;
  bool capture_origin = false;
  std::vector<std::size_t> capture_tail;  // what the next captured operation comes after
};

struct CUevent_st {
  std::shared_ptr<simt::EventRecord> record;
  bool captured = false;                 // recorded while capturing
  std::weak_ptr<simt::Capture> capture;  // what it keeps no longer than graphs do
  std::vector<std::size_t> capture_tail;
  bool timed = true;
  int device = simt::current_device;
};
