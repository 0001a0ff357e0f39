#include "tests/harness/simt/engine/block.hpp"

#include <algorithm>
#include <bit>
#include <sstream>
#include <string_view>

namespace simt {

thread_local Thread* running_thread = nullptr;
thread_local Block* running_block = nullptr;

namespace {

// Between two meetings of threads no honest kernel yields this often.
constexpr std::uint64_t kMaxIdleYields = 4'000'000;
// Runs of threads that a message lists.
constexpr int kMaxParts = 12;

std::string index_text(uint3 v) {
  std::ostringstream text;
  text << '(' << v.x << ',' << v.y << ',' << v.z << ')';
  return text.str();
}

std::string call_text(const char* name, std::uint32_t mask) {
  std::ostringstream text;
  text << "calls " << name << " with mask 0x" << std::hex << mask;
  return text.str();
}

#ifdef SIMT_ADDRESS_SANITIZER
// Unwinds a failed thread, so that its frames leak nothing. Elsewhere it is abandoned: the memory
// checks fail inside accesses, where the compiler knows of no exception.
struct Abandoned {};
#endif

// Ends the landing of a copy that has failed.
struct LandingFailed {};

}  // namespace

Block& this_block(const char* what) {
  if (running_block == nullptr) {
    throw Fault(std::string(what) + " is device code, but the host called it");
  }
  return *running_block;
}

std::string Block::describe_thread(int thread) const {
  if (thread == agent_.index) return "a copy of a box";
  std::ostringstream text;
  text << "thread " << thread;
  if (shape_.block.y > 1 || shape_.block.z > 1)
    text << ' ' << index_text(threads_[thread].position);
  return text.str();
}

std::uint32_t Block::lanes_present(int warp) const {
  const int lanes = std::min(32, count_ - warp * 32);
  return lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
}

void Block::place(const detail::Kernel& kernel, const LaunchShape& shape, uint3 position) {
  kernel_ = &kernel;
  shape_ = shape;
  position_ = position;
  thread_locals_ = thread_local_variables();
}

void Block::run() {
  start();
  running_block = this;
  schedule();
  if (fault_.empty()) {
    const std::string leftover = async_.leftover();
    if (!leftover.empty())
      fault_ = "kernel " + function_name(kernel_->function) + ", block " + index_text(position_) +
               " ends with " + leftover;
  }
  running_block = nullptr;
  running_thread = nullptr;
  if (!fault_.empty()) throw Fault(fault_);
}

void Block::start() {
  count_ = static_cast<int>(shape_.block.x * shape_.block.y * shape_.block.z);
  live_ = count_;
  at_barrier_ = 0;
  idle_yields_ = 0;
  fault_.clear();
  for (auto& groups : groups_) groups.clear();
  for (int warp = 0; warp * 32 < count_; ++warp) lanes_running_[warp] = lanes_present(warp);
  async_ = {};
  agent_.index = (count_ + 31) / 32 * 32;  // a warp of its own
  order_.start(&clock_, agent_.index + 1);
  ready_.resize(count_);
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
    prepare(thread.fiber, stacks_, i, &Block::entry);
    const auto linear = static_cast<unsigned>(i);
    thread.index = i;
    thread.position = {linear % shape_.block.x, linear / shape_.block.x % shape_.block.y,
                       linear / (shape_.block.x * shape_.block.y)};
    thread.wait = Wait::ready;
    thread.copies.clear();
    thread.copy_group = 0;
    thread.accumulators.clear();
    thread.proxy_fence = 0;
    ready_[i] = static_cast<std::uint16_t>(i);
  }
}

void Block::schedule() {
  while (live_ > 0 && fault_.empty()) {
    const std::size_t choices = ready_.size() + async_.transfers.size();
    if (choices == 0) {
      running_thread = nullptr;
      fault_ = "kernel " + function_name(kernel_->function) + ", block " + index_text(position_) +
               ": threads wait for each other for ever: " + describe_waits() +
               async_.describe_mbarriers();
      return;
    }
    const std::size_t choice = random_.below(static_cast<std::uint32_t>(choices));
    if (choice >= ready_.size()) {
      land(choice - ready_.size());
      continue;
    }
    std::uint16_t& drawn = ready_[choice];
    Thread& thread = threads_[drawn];
    drawn = ready_.back();
    ready_.pop_back();
    running_thread = &thread;
    switch_to(scheduler_, thread.fiber);
  }
}

void Block::land(std::size_t transfer) {
  const Transfer landing = std::move(async_.transfers[transfer]);
  async_.transfers.erase(async_.transfers.begin() + static_cast<std::ptrdiff_t>(transfer));
  running_thread = &agent_;
  order_.become(agent_.index, landing.knowledge);
  try {
    landing.land();
  } catch (const LandingFailed&) {
  }
  running_thread = nullptr;
}

void Block::entry(boost::context::detail::transfer_t transfer) {
  Block& block = *running_block;
  Thread& thread = *running_thread;
  entered(transfer, thread.fiber);
#ifdef SIMT_ADDRESS_SANITIZER
  try {
    block.kernel_->run(block.kernel_->arguments);
    block.check_exit(thread);
  } catch (const Abandoned&) {
  }
#else
  block.kernel_->run(block.kernel_->arguments);
  block.check_exit(thread);
#endif
  block.finish(thread);
}

void Block::finish(Thread& thread) {
  thread.wait = Wait::exited;
  lanes_running_[thread.warp()] &= ~(1u << thread.lane());
  --live_;
  idle_yields_ = 0;
  switch_to(thread.fiber, scheduler_);
}

void Block::check_exit(const Thread& thread) {
  if (!thread.accumulators.empty()) fail("exits while wgmma has sums of it in flight");
  if (at_barrier_ > 0) {
    fail("exits while " + std::to_string(at_barrier_) + " threads wait for it at " + barrier_name_ +
         ": " + describe_waits());
  }
  for (const Group& group : groups_[thread.warp()]) {
    if ((group.mask >> thread.lane()) & 1u) {
      fail(std::string("exits while other lanes wait for it at ") + group.name + ": " +
           describe_waits());
    }
  }
}

void Block::suspend(Thread& thread) { switch_to(thread.fiber, scheduler_); }

void Block::fail(const std::string& what) {
  Thread& thread = *running_thread;
  running_thread = nullptr;
  fault_ = "kernel " + function_name(kernel_->function) + ", block " + index_text(position_) +
           ", " + describe_thread(thread.index) + ": " + what;
  if (&thread == &agent_) throw LandingFailed();
#ifdef SIMT_ADDRESS_SANITIZER
  throw Abandoned();
#else
  switch_to(thread.fiber, scheduler_);  // never resumed
  __builtin_unreachable();
#endif
}

void Block::yield() {
  Thread& thread = *running_thread;
  if (++idle_yields_ > kMaxIdleYields) {
    fail(
        "spins for ever: blocks run one after the other here, as a GPU with one free slot may run "
        "them, so that no block may wait for another one: " +
        describe_waits());
  }
  ready_.push_back(static_cast<std::uint16_t>(thread.index));
  suspend(thread);
}

void Block::wait_for(Wait wait, const char* what) {
  Thread& thread = *running_thread;
  thread.wait = wait;
  thread.waits_at = what;
  suspend(thread);
}

void Block::wake(int thread) {
  threads_[thread].wait = Wait::ready;
  ready_.push_back(static_cast<std::uint16_t>(thread));
}

int Block::block_barrier(const char* name, bool predicate) {
  if (live_ < count_) {
    fail(std::string("waits at ") + name +
         ", which threads that have exited can never reach: " + describe_waits());
  }
  if (at_barrier_ > 0 && std::string_view(name) != barrier_name_) {
    fail(std::string("waits at ") + name + " while others wait at " + barrier_name_);
  }
  barrier_name_ = name;
  true_predicates_ = at_barrier_ == 0 ? predicate : true_predicates_ + predicate;
  if (++at_barrier_ < count_) {
    wait_for(Wait::block_barrier, name);
    return barrier_result_;
  }
  barrier_result_ = true_predicates_;
  at_barrier_ = 0;
  idle_yields_ = 0;
  order_.block_barrier();
  for (int i = 0; i < count_; ++i) {
    if (threads_[i].wait == Wait::block_barrier) wake(i);
  }
  yield();
  return barrier_result_;
}

void Block::warp_collective(const char* name, std::uint32_t mask, void* request,
                            Complete complete) {
  Thread& thread = *running_thread;
  const int warp = thread.warp();
  const std::uint32_t own = 1u << thread.lane();
  if ((mask & own) == 0) fail(call_text(name, mask) + ", which leaves out its own lane");
  if ((mask & ~lanes_running_[warp]) != 0) {
    fail(call_text(name, mask) + ", which names lanes that have exited or do not exist");
  }
  auto& groups = groups_[warp];
  auto group = std::find_if(groups.begin(), groups.end(),
                            [&](const Group& other) { return other.mask == mask; });
  if (group == groups.end()) group = groups.insert(groups.end(), Group{mask, 0, complete, name});
  if (group->complete != complete ||
      (group->name != name && std::string_view(group->name) != name)) {
    fail(call_text(name, mask) + " while other lanes of the mask wait at " + group->name);
  }
  group->arrived |= own;
  thread.request = request;
  if (group->arrived != mask) {
    thread.mask = mask;
    wait_for(Wait::warp, name);
    return;
  }
  groups.erase(group);
  void* requests[32] = {};
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    requests[lane] = threads_[warp * 32 + lane].request;
    if (warp * 32 + lane != thread.index) wake(warp * 32 + lane);
  }
  idle_yields_ = 0;
  order_.warp_meeting(warp, mask, lanes_present(warp));
  if (complete != nullptr) complete(requests, mask);
  yield();
}

std::string Block::describe_waits() const {
  const auto state = [&](const Thread& thread) -> std::string {
    switch (thread.wait) {
      case Wait::ready:
        return thread.index == (running_thread ? running_thread->index : -1) ? "is this one"
                                                                             : "runs";
      case Wait::exited:
        return "has exited";
      default:
        break;
    }
    std::ostringstream text;
    text << "waits at " << thread.waits_at;
    if (thread.wait == Wait::warp) text << " with mask 0x" << std::hex << thread.mask;
    return text.str();
  };
  std::ostringstream text;
  for (int first = 0, parts = 0; first < count_; ++parts) {
    if (parts == kMaxParts) return text.str() + "; and so on";
    int last = first;
    while (last + 1 < count_ && state(threads_[last + 1]) == state(threads_[first])) ++last;
    text << (first == 0 ? "" : "; ") << "thread " << first;
    if (last > first) text << " to " << last << " each";
    text << ' ' << state(threads_[first]);
    first = last + 1;
  }
  return text.str();
}

}  // namespace simt
