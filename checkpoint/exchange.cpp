#include "checkpoint/exchange.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/core/tensor.hpp"

namespace filigree {
namespace {

Tensor bytes_of(const std::string& text, std::int64_t padded) {
  Tensor bytes = Tensor::zeros({padded}, DType::u8);
  std::memcpy(bytes.raw(), text.data(), text.size());
  return bytes;
}

}  // namespace

std::vector<std::string> gather_texts(Communicator& world, const std::string& text) {
  const Tensor size = Tensor::zeros({1}, DType::i64);
  size.data<std::int64_t>()[0] = static_cast<std::int64_t>(text.size());
  const Tensor sizes = Tensor::zeros({world.size()}, DType::i64);
  world.all_gather(size, sizes);

  const auto lengths = sizes.span<std::int64_t>();
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::string> texts(lengths.size());
  if (longest == 0) return texts;
  const Tensor all = Tensor::zeros({world.size(), longest}, DType::u8);
  world.all_gather(bytes_of(text, longest), all);
  const char* row = static_cast<const char*>(all.raw());
  for (std::size_t rank = 0; rank < texts.size(); ++rank, row += longest) {
    texts[rank].assign(row, static_cast<std::size_t>(lengths[rank]));
  }
  return texts;
}

}  // namespace filigree
