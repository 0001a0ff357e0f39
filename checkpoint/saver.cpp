#include "checkpoint/saver.hpp"

#include <utility>

namespace filigree {
namespace {

constexpr std::chrono::milliseconds kLook{2};

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

CheckpointSaver::CheckpointSaver(std::filesystem::path folder, Communicator& world,
                                 const Options& options)
    : folder_(std::move(folder)),
      world_(world),
      options_(options),
      retention_(options.rule, *options.system) {}

CheckpointSaver::~CheckpointSaver() {
  if (thread_.joinable()) thread_.join();
}

// What `body` takes is time in which this rank stands still.
template <class Body>
std::optional<SaveReport> CheckpointSaver::paused(Body&& body) {
  const Clock::time_point begun = Clock::now();
  bool ended = false;
  try {
    ended = body();
  } catch (const UserError& error) {  // of CheckpointSave: all ranks have it
    report_.failure = error.what();
    ended = true;
  }
  const Clock::time_point now = Clock::now();
  report_.pause_seconds += seconds_between(begun, now);
  if (!ended) return std::nullopt;
  report_.total_seconds = seconds_between(started_, now);
  save_.reset();
  return std::exchange(report_, {});
}

std::optional<SaveReport> CheckpointSaver::start(const CheckpointInfo& info,
                                                 std::vector<NamedTensor> tensors) {
  FILIGREE_CHECK(!busy(), "a save of step ", report_.step, " is under way");
  report_.step = info.step;
  started_ = Clock::now();
  tensors_ = std::move(tensors);
  std::vector<PromisedSlice> slices;
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    slices.emplace_back(tensors_[i], [this, i] { return values_of(i); });
  return paused([&] {
    save_ = std::make_unique<CheckpointSave>(folder_, info, std::move(slices), world_, retention_,
                                             *options_.system);
    if (options_.background) {
      copied_ = std::async(std::launch::deferred, [this] { copy_tensors(); });
      if (options_.context.stream) copied_.wait();
    }
    begin(Stage::writing);
    return !options_.background && advance();
  });
}

void CheckpointSaver::wait_for_copy() {
  if (!busy()) return;
  const Clock::time_point begun = Clock::now();
  if (copied_.valid()) copied_.wait();
  report_.pause_seconds += seconds_between(begun, Clock::now());
}

std::optional<SaveReport> CheckpointSaver::poll() {
  if (!busy()) return std::nullopt;
  return paused([&] { return all_ranks_are_done() && advance(); });
}

// Looks again and again instead of waiting in a collective: a disk may take longer than peers may.
SaveReport CheckpointSaver::finish() {
  FILIGREE_CHECK(busy(), "no save is under way");
  while (true) {
    if (auto report = poll()) return *std::move(report);
    std::this_thread::sleep_for(kLook);
  }
}

std::vector<std::string> CheckpointSaver::wait_for_removal() {
  FILIGREE_CHECK(!busy(), "a save of step ", report_.step, " is under way");
  retention_.wait();
  return retention_.take_warnings();
}

// What a rank does alone in a stage, on a thread in the background.
void CheckpointSaver::begin(Stage stage) {
  stage_ = stage;
  done_ = false;
  if (!options_.background) return run_stage();
  thread_ = std::thread([this] { run_stage(); });
}

void CheckpointSaver::run_stage() {
  if (stage_ == Stage::writing) {
    if (copied_.valid()) copied_.wait();
    save_->write();
  } else {
    save_->publish();
  }
  done_ = true;
}

void CheckpointSaver::copy_tensors() {
  const ExecutionContext& context = options_.context;
  copies_.resize(tensors_.size());
  for (const std::size_t index : save_->own_slices()) {
    const Tensor& tensor = tensors_[index].tensor;
    Tensor& copy = copies_[index];
    if (!copy.defined() || copy.shape() != tensor.shape() || copy.dtype() != tensor.dtype())
      copy = Tensor::empty(tensor.shape(), tensor.dtype(),
                           context.pinned ? context.pinned : host_allocator());
    context.copy(tensor, copy);
  }
  if (context.stream) context.stream->synchronize();
}

// What is written: the copy, or why there is none.
Tensor CheckpointSaver::values_of(std::size_t index) {
  if (!copied_.valid()) return options_.context.download(tensors_[index].tensor);
  copied_.get();
  return copies_[index];
}

bool CheckpointSaver::all_ranks_are_done() {
  const Tensor done = Tensor::zeros({1}, DType::i32);
  *done.data<std::int32_t>() = done_ ? 1 : 0;
  world_.all_reduce(done, ReduceOp::min);
  return *done.data<std::int32_t>() == 1;
}

// All ranks have done their part of the stage. Returns whether the save has ended.
bool CheckpointSaver::advance() {
  if (thread_.joinable()) thread_.join();
  if (stage_ == Stage::writing) {
    save_->gather();
    begin(Stage::publishing);
    if (options_.background) return false;
  }
  report_.saved = save_->finish();
  return true;
}

}  // namespace filigree
