#include "checkpoint/difference.hpp"

#include <cmath>
#include <limits>

#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

template <class T>
GlobalTensor tensor(const std::string& name, const Shape& shape, std::vector<T> values) {
  return {name, Tensor::from<T>(shape, values)};
}

CheckpointReader saved(const fs::path& folder, const std::vector<GlobalTensor>& tensors, int ranks,
                       int dim) {
  run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
    std::vector<PromisedSlice> mine;
    for (const GlobalTensor& global : tensors)
      mine.push_back(global.values.rank() > dim ? shard_of(global, dim, ranks, world->rank())
                                                : whole_of(global));
    save_checkpoint(folder, info_of(1, 1, ranks), mine, *world, {});
  });
  return CheckpointReader(folder / step_folder_name(1));
}

TEST(CompareCheckpoints, FindsNothingBetweenLayouts) {
  const TemporaryFolder a, b;
  const std::vector<GlobalTensor> tensors{{"w", random_bits({37, 65}, DType::f32, "w")},
                                          {"s", random_bits({}, DType::f64, "s")},
                                          {"e", random_bits({0, 3}, DType::f32, "e")}};
  std::int64_t last = 0;
  const auto differences =
      compare_checkpoints(saved(a.path(), tensors, 3, 0), saved(b.path(), tensors, 2, 1),
                          [&](std::int64_t done, std::int64_t total) {
                            EXPECT_LE(done, total);
                            last = done;
                          });
  ASSERT_EQ(differences.size(), 3u);
  for (const TensorDifference& difference : differences) EXPECT_TRUE(difference.same());
  EXPECT_EQ(last, 37 * 65 * 4 + 8);
}

TEST(CompareCheckpoints, SaysWhatDiffersAndByHowMuch) {
  const TemporaryFolder a, b;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto differences = compare_checkpoints(
      saved(a.path(),
            {tensor<float>("close", {4}, {1, 2, 3, 0}), tensor<double>("nan", {2}, {1, kNan}),
             tensor<Float16>("half", {2}, {Float16(1.5f), Float16(2)}),
             tensor<std::int32_t>("count", {2}, {5, 6}), tensor<float>("gone", {1}, {1}),
             tensor<float>("shape", {2, 2}, {1, 2, 3, 4})},
            1, 0),
      saved(b.path(),
            {tensor<float>("close", {4}, {1, 2.5, 3, -0.0f}), tensor<double>("nan", {2}, {1, 2}),
             tensor<Float16>("half", {2}, {Float16(1.25f), Float16(2)}),
             tensor<std::int32_t>("count", {2}, {5, 9}), tensor<float>("new", {1}, {1}),
             tensor<float>("shape", {4}, {1, 2, 3, 4})},
            2, 0));
  const auto of = [&](const std::string& name) {
    for (const TensorDifference& difference : differences)
      if (difference.name == name) return difference;
    ADD_FAILURE() << name;
    return TensorDifference{};
  };
  EXPECT_EQ(differences.size(), 7u);
  EXPECT_EQ(of("close").differing, 2);  // -0 has other bits
  EXPECT_DOUBLE_EQ(of("close").largest, 0.5);
  EXPECT_DOUBLE_EQ(of("close").largest_relative, 0.2);
  EXPECT_TRUE(std::isnan(of("nan").largest));
  EXPECT_EQ(of("half").differing, 1);
  EXPECT_DOUBLE_EQ(of("half").largest, 0.25);
  EXPECT_EQ(of("count").differing, 1);
  EXPECT_DOUBLE_EQ(of("count").largest, 3);
  EXPECT_EQ(of("gone").form, "only in the first");
  EXPECT_EQ(of("new").form, "only in the second");
  EXPECT_EQ(of("shape").form, "f32[2, 2] and f32[4]");
}

}  // namespace
}  // namespace filigree
