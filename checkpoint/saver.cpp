#include "checkpoint/saver.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace filigree {
namespace {

constexpr std::int64_t kCopyBytes = std::int64_t{4} << 20;
constexpr std::chrono::milliseconds kLook{2};

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

struct Piece {
  const std::byte* from;
  std::byte* to;
  std::int64_t bytes;
};

void add_pieces(const Tensor& from, const Tensor& to, std::vector<Piece>& pieces) {
  const auto* source = static_cast<const std::byte*>(from.raw());
  auto* target = static_cast<std::byte*>(to.raw());
  for (std::int64_t done = 0; done < from.bytes(); done += kCopyBytes)
    pieces.push_back({source + done, target + done, std::min(kCopyBytes, from.bytes() - done)});
}

}  // namespace

CheckpointSaver::CheckpointSaver(std::filesystem::path folder, Communicator& world,
                                 const Options& options)
    : folder_(std::move(folder)), world_(world), options_(options) {}

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
  return paused([&] {
    save_ = std::make_unique<CheckpointSave>(folder_, info, std::move(tensors), world_,
                                             options_.rule, intact_, *options_.system);
    if (options_.background) copy(save_->own_tensors());
    begin(Stage::writing);
    return !options_.background && advance();
  });
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

// Into the same memory as the last time where the sizes are the same.
void CheckpointSaver::copy(const std::vector<NamedTensor*>& tensors) {
  copies_.resize(tensors.size());
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Tensor& tensor = tensors[i]->tensor;
    Tensor& copy = copies_[i];
    if (!copy.defined() || copy.shape() != tensor.shape() || copy.dtype() != tensor.dtype())
      copy = Tensor::empty(tensor.shape(), tensor.dtype());
    add_pieces(tensor, copy, pieces);
    tensor = copy;
  }
#pragma omp parallel for num_threads(options_.threads) schedule(dynamic)
  for (const Piece& piece : pieces)
    std::memcpy(piece.to, piece.from, static_cast<std::size_t>(piece.bytes));
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
    save_->write();
  } else {
    save_->publish();
  }
  done_ = true;
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
