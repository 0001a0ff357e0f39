#include "parallel/nccl_world.hpp"

#include <unistd.h>

#include <array>

#include "parallel/nccl_group.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {
namespace {

std::string name_of_rank(int rank) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return str("rank ", rank, " on ", host.data());
}

}  // namespace

NcclWorld::NcclWorld(std::shared_ptr<Communicator> host, std::shared_ptr<Stream> compute,
                     std::chrono::milliseconds timeout)
    : host_(std::move(host)),
      compute_(std::move(compute)),
      timeout_(timeout),
      who_(name_of_rank(host_->rank())),
      watch_(timeout, [this] { return look(); }) {}

void NcclWorld::check() const {
  if (failure_) std::rethrow_exception(failure_);
  host_->throw_if_aborted();
}

void NcclWorld::throw_if_failed() const {
  const std::lock_guard lock(mutex_);
  check();
}

bool NcclWorld::look() {
  const std::lock_guard lock(mutex_);
  try {
    check();
    // Of this thread: what asks about events would otherwise make a context on the first GPU.
    FILIGREE_CHECK_CUDA(cudaSetDevice(compute_->device().index));
    for (NcclGroup* group : groups_) group->look();
    return true;
  } catch (...) {
    end(std::current_exception());
    return false;
  }
}

void NcclWorld::fail(std::exception_ptr failure) noexcept {
  const std::lock_guard lock(mutex_);
  end(std::move(failure));
}

void NcclWorld::end(std::exception_ptr failure) noexcept {
  if (!failure_) failure_ = std::move(failure);
  // All at once: an abort may wait for all that its GPU does, and so for the other communicators.
  for (NcclGroup* group : groups_)
    if (const ncclComm_t comm = group->give_up())
      aborts_.emplace_back([comm] { ncclCommAbort(comm); });
}

void NcclWorld::add(NcclGroup& group) {
  while_alive([&] { groups_.push_back(&group); });
}

void NcclWorld::remove(NcclGroup& group) {
  const std::lock_guard lock(mutex_);
  std::erase(groups_, &group);
}

}  // namespace filigree
