#include "data_pipeline/batch_loader.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

void check(const BatchLoader::Options& options, const TokenDataset& dataset,
           const Sampler& sampler) {
  FILIGREE_CHECK(options.length >= 1 && options.micro_batch >= 1 && options.prefetch >= 1 &&
                     options.first_step >= 0,
                 "length ", options.length, ", micro-batch ", options.micro_batch, ", prefetch ",
                 options.prefetch, ", first step ", options.first_step);
  FILIGREE_CHECK(
      0 <= options.begin && options.begin < options.end && options.end <= options.global_batch,
      "rows ", options.begin, " to ", options.end, " of ", options.global_batch);
  FILIGREE_CHECK_EQ(sampler.windows(), window_count(dataset.tokens(), options.length), "windows");
}

}  // namespace

struct BatchLoader::State {
  State(TokenDataset d, Sampler s, const Options& o)
      : dataset(std::move(d)), sampler(s), options(o) {}
  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    if (reader.joinable()) reader.join();
  }

  TokenBatch read(std::int64_t step, std::int64_t row, std::int64_t rows) const;
  bool deliver(TokenBatch batch);
  void run();

  TokenDataset dataset;
  Sampler sampler;
  Options options;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<TokenBatch> ready;  // at most options.prefetch
  std::exception_ptr failure;    // what ended the reader; nothing follows what is ready
  bool stopping = false;
  double wait_seconds = 0.0;
  std::thread reader;  // started last, by the loader
};

TokenBatch BatchLoader::State::read(std::int64_t step, std::int64_t row, std::int64_t rows) const {
  const std::int64_t length = options.length;
  TokenBatch batch;
  batch.batch = rows;
  batch.length = length;
  batch.first_sample = step * options.global_batch + row;
  batch.tokens_T = Tensor::empty({rows * length}, DType::i32, host_allocator(), MemoryUse::data);
  batch.targets_T = Tensor::empty({rows * length}, DType::i32, host_allocator(), MemoryUse::data);
  std::vector<std::int32_t> window(static_cast<std::size_t>(length + 1));
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t sample = batch.first_sample + r;
    // Steps are counted from 1 wherever a user sees them.
    const ErrorContext context(str("step ", step + 1, ", sample ", sample));
    dataset.read(sampler.window(sample) * length, window);
    std::copy_n(window.begin(), length, batch.tokens_T.data<std::int32_t>() + r * length);
    std::copy_n(window.begin() + 1, length, batch.targets_T.data<std::int32_t>() + r * length);
  }
  return batch;
}

// Waits for room; false when the loader is being destroyed.
bool BatchLoader::State::deliver(TokenBatch batch) {
  std::unique_lock lock(mutex);
  changed.wait(
      lock, [&] { return stopping || static_cast<std::int64_t>(ready.size()) < options.prefetch; });
  if (stopping) return false;
  ready.push_back(std::move(batch));
  lock.unlock();
  changed.notify_all();
  return true;
}

void BatchLoader::State::run() {
  try {
    for (std::int64_t step = options.first_step;; ++step) {
      for (std::int64_t row = options.begin; row < options.end; row += options.micro_batch) {
        if (!deliver(read(step, row, std::min(options.micro_batch, options.end - row)))) return;
      }
    }
  } catch (...) {
    const std::lock_guard lock(mutex);
    failure = std::current_exception();
  }
  changed.notify_all();
}

BatchLoader::BatchLoader(TokenDataset dataset, Sampler sampler, const Options& options) {
  check(options, dataset, sampler);
  state_ = std::make_unique<State>(std::move(dataset), sampler, options);
  state_->reader = std::thread([state = state_.get()] { state->run(); });
}

BatchLoader::~BatchLoader() = default;
BatchLoader::BatchLoader(BatchLoader&&) noexcept = default;

std::int64_t BatchLoader::micro_batches() const {
  const Options& options = state_->options;
  return (options.end - options.begin + options.micro_batch - 1) / options.micro_batch;
}

TokenBatch BatchLoader::next() {
  State& state = *state_;
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return !state.ready.empty() || state.failure; });
  state.wait_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (state.ready.empty()) std::rethrow_exception(state.failure);
  TokenBatch batch = std::move(state.ready.front());
  state.ready.pop_front();
  lock.unlock();
  state.changed.notify_all();
  return batch;
}

double BatchLoader::wait_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->wait_seconds;
}

}  // namespace filigree
