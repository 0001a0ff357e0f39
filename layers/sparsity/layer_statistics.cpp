#include "layers/sparsity/layer_statistics.hpp"

#include <algorithm>
#include <array>

namespace filigree {
namespace {

constexpr std::array kSums = {&LayerStatistics::pairs,         &LayerStatistics::allowed_pairs,
                              &LayerStatistics::blocks,        &LayerStatistics::forced_blocks,
                              &LayerStatistics::caught,        &LayerStatistics::caught_rows,
                              &LayerStatistics::caught_random, &LayerStatistics::caught_mean_pooled,
                              &LayerStatistics::entropy,       &LayerStatistics::entropy_rows,
                              &LayerStatistics::divergence,    &LayerStatistics::divergence_rows,
                              &LayerStatistics::heads_skipped, &LayerStatistics::head_choices};

}  // namespace

void LayerStatistics::add(const LayerStatistics& other) {
  for (const auto sum : kSums) this->*sum += other.*sum;
  largest_logit = std::max(largest_logit, other.largest_logit);
}

std::vector<LayerStatistics> reduce_over_ranks(const std::vector<LayerStatistics>& layers,
                                               const Mesh& mesh) {
  const auto count = static_cast<std::int64_t>(layers.size());
  constexpr auto kWidth = static_cast<std::int64_t>(kSums.size());
  const Tensor sums = Tensor::empty({count, kWidth}, DType::f64);
  const Tensor largest = Tensor::empty({count}, DType::f64);
  auto* sum = sums.data<double>();
  for (const LayerStatistics& layer : layers)
    for (const auto member : kSums) *sum++ = layer.*member;
  for (std::size_t i = 0; i < layers.size(); ++i)
    largest.data<double>()[i] = layers[i].largest_logit;
  for (const Axis axis : {Axis::tensor, Axis::data}) {
    mesh.on(axis).all_reduce(sums);
    mesh.on(axis).all_reduce(largest, ReduceOp::max);
  }
  std::vector<LayerStatistics> result(layers.size());
  sum = sums.data<double>();
  for (std::size_t i = 0; i < result.size(); ++i) {
    for (const auto member : kSums) result[i].*member = *sum++;
    result[i].largest_logit = largest.data<double>()[i];
  }
  return result;
}

}  // namespace filigree
