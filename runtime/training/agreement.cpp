#include "runtime/training/agreement.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>

namespace filigree {

std::string broadcast_text(Communicator& world, const std::string& text, int root) {
  const Tensor size = Tensor::zeros(Shape{1}, DType::i64);
  *size.data<std::int64_t>() = static_cast<std::int64_t>(text.size());
  world.broadcast(size, root);
  const std::int64_t bytes = *size.data<std::int64_t>();
  if (bytes == 0) return {};
  const Tensor buffer = Tensor::zeros(Shape{bytes}, DType::u8);
  if (world.rank() == root) std::copy(text.begin(), text.end(), buffer.data<std::uint8_t>());
  world.broadcast(buffer, root);
  return {buffer.span<std::uint8_t>().begin(), buffer.span<std::uint8_t>().end()};
}

bool any_rank(Communicator& world, bool value) {
  const Tensor flag = Tensor::zeros(Shape{1}, DType::i32);
  *flag.data<std::int32_t>() = value ? 1 : 0;
  world.all_reduce(flag, ReduceOp::max);
  return *flag.data<std::int32_t>() != 0;
}

void agree(Communicator& world, const std::function<void()>& body) {
  std::optional<std::string> message;
  try {
    body();
  } catch (const UserError& error) {
    message = error.what();
  }
  const Tensor mine = Tensor::zeros(Shape{1}, DType::i32);
  *mine.data<std::int32_t>() = message ? 1 : 0;
  const Tensor all = Tensor::zeros(Shape{world.size()}, DType::i32);
  world.all_gather(mine, all);
  const auto failed = all.span<std::int32_t>();
  const auto first = std::find(failed.begin(), failed.end(), 1);
  if (first == failed.end()) return;
  const int rank = static_cast<int>(first - failed.begin());
  const std::string text = broadcast_text(world, message.value_or(""), rank);
  throw AgreedError(rank == 0 ? text : str("[rank ", rank, "] ", text));
}

void agree_on_first(Communicator& world, const std::function<void()>& body) {
  agree(world, [&] {
    if (world.rank() == 0) body();
  });
}

void agree_on_first_at_length(Communicator& world, const std::function<void()>& body) {
  constexpr std::chrono::milliseconds kBetweenQuestions(50);
  std::future<void> work;
  if (world.rank() == 0) work = std::async(std::launch::async, body);
  const auto is_done = [&] {
    return world.rank() == 0 && work.wait_for(kBetweenQuestions) == std::future_status::ready;
  };
  while (!any_rank(world, is_done())) {
  }
  agree_on_first(world, [&] { work.get(); });
}

}  // namespace filigree
