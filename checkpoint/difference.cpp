#include "checkpoint/difference.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

namespace filigree {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{8} << 20;

std::string form_of(const CheckpointReader& reader, const std::string& name) {
  return str(name_of(reader.dtype(name)), reader.global_shape(name));
}

std::string form_difference(const CheckpointReader& first, const CheckpointReader& second,
                            const std::string& name) {
  if (!second.contains(name)) return "only in the first";
  if (!first.contains(name)) return "only in the second";
  const std::string left = form_of(first, name), right = form_of(second, name);
  return left == right ? "" : str(left, " and ", right);
}

void compare_value(double a, double b, TensorDifference& difference) {
  if (std::isnan(a) && std::isnan(b)) return;
  const double distance = std::abs(a - b), size = std::max(std::abs(a), std::abs(b));
  const double relative = size > 0.0 ? distance / size : 0.0;
  // Once not a number, always so.
  if (!(distance <= difference.largest)) difference.largest = distance;
  if (!(relative <= difference.largest_relative)) difference.largest_relative = relative;
}

// Integers as far as f64 holds them.
std::vector<double> numbers_of(const Tensor& tensor) {
  if (is_floating(tensor.dtype())) {
    const Tensor wide = tensor.to(DType::f64);
    return {wide.span<double>().begin(), wide.span<double>().end()};
  }
  const Tensor wide = tensor.to(DType::i64);
  return {wide.span<std::int64_t>().begin(), wide.span<std::int64_t>().end()};
}

void compare_piece(const Tensor& left, const Tensor& right, TensorDifference& difference) {
  const auto* a = static_cast<const std::byte*>(left.raw());
  const auto* b = static_cast<const std::byte*>(right.raw());
  if (std::memcmp(a, b, static_cast<std::size_t>(left.bytes())) == 0) return;
  const std::vector<double> x = numbers_of(left), y = numbers_of(right);
  const auto size = static_cast<std::size_t>(size_of(left.dtype()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::memcmp(a + i * size, b + i * size, size) == 0) continue;
    ++difference.differing;
    compare_value(x[i], y[i], difference);
  }
}

// Rows [begin, end) of the first dim; all of a scalar.
NamedTensor rows_of(const CheckpointReader& reader, const std::string& name, std::int64_t begin,
                    std::int64_t end) {
  const Shape whole = reader.global_shape(name);
  std::vector<std::int64_t> sizes(whole.sizes().begin(), whole.sizes().end());
  std::vector<std::int64_t> offset(sizes.size(), 0);
  if (!sizes.empty()) {
    sizes[0] = end - begin;
    offset[0] = begin;
  }
  const Shape part{std::span<const std::int64_t>(sizes)};
  NamedTensor rows{name, Tensor::empty(part, reader.dtype(name)), whole, offset};
  reader.read(rows);
  return rows;
}

void compare_values(const CheckpointReader& first, const CheckpointReader& second,
                    TensorDifference& difference,
                    const std::function<void(std::int64_t)>& progress) {
  const Shape shape = first.global_shape(difference.name);
  difference.values = shape.numel();
  if (difference.values == 0) return;
  const std::int64_t rows = shape.rank() == 0 ? 1 : shape[0];
  const std::int64_t row_bytes = shape.numel() / rows * size_of(first.dtype(difference.name));
  const std::int64_t step = std::clamp<std::int64_t>(kPieceBytes / row_bytes, 1, rows);
  for (std::int64_t row = 0; row < rows; row += step) {
    const std::int64_t end = std::min(row + step, rows);
    compare_piece(rows_of(first, difference.name, row, end).tensor,
                  rows_of(second, difference.name, row, end).tensor, difference);
    progress((end - row) * row_bytes);
  }
}

}  // namespace

std::vector<TensorDifference> compare_checkpoints(
    const CheckpointReader& first, const CheckpointReader& second,
    const std::function<void(std::int64_t, std::int64_t)>& progress) {
  std::vector<std::string> names = first.names();
  for (const std::string& name : second.names())
    if (!first.contains(name)) names.push_back(name);
  std::sort(names.begin(), names.end());
  std::int64_t done = 0;
  const auto advance = [&](std::int64_t bytes) {
    done += bytes;
    if (progress) progress(done, first.bytes());
  };
  std::vector<TensorDifference> differences;
  for (const std::string& name : names) {
    TensorDifference& difference = differences.emplace_back();
    difference.name = name;
    difference.form = form_difference(first, second, name);
    if (difference.form.empty()) compare_values(first, second, difference, advance);
  }
  return differences;
}

}  // namespace filigree
