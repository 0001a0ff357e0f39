#include "runtime/core/tensor.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace filigree {
namespace {

Tensor counting(const Shape& shape) {
  const Tensor x = Tensor::empty(shape, DType::i32);
  std::iota(x.data<std::int32_t>(), x.data<std::int32_t>() + x.numel(), 0);
  return x;
}

TEST(Shape, CountsAndIndexes) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.numel(), 24);
  EXPECT_EQ(shape[-1], 4);
  EXPECT_EQ(shape.with(-2, 5), (Shape{2, 5, 4}));
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ((Shape{3, 0}).numel(), 0);
  EXPECT_EQ(str(shape), "[2, 3, 4]");
}

TEST(Shape, RefusesWhatIsOutOfRange) {
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), InternalError);
  EXPECT_THROW((Shape{2, -1}), InternalError);
  EXPECT_THROW((Shape{2, 3})[2], InternalError);
  EXPECT_THROW((Shape{2, 3}).with(-3, 1), InternalError);
}

TEST(Shape, CountsBeyond32Bits) {
  EXPECT_EQ((Shape{1 << 20, 1 << 20}).numel(), std::int64_t{1} << 40);
}

TEST(Tensor, ViewsShareStorage) {
  const Tensor x = counting({4, 6});
  const Tensor reshaped = x.view({3, 8});
  reshaped.data<std::int32_t>()[23] = -1;
  EXPECT_EQ(x.data<std::int32_t>()[23], -1);
  EXPECT_TRUE(x.shares_storage_with(reshaped));
  EXPECT_FALSE(x.shares_storage_with(x.clone()));
}

TEST(Tensor, RowsOfRows) {
  const Tensor x = counting({5, 2, 3});
  const Tensor rows = x.rows(1, 4).rows(1, 3);
  EXPECT_EQ(rows.shape(), (Shape{2, 2, 3}));
  EXPECT_EQ(rows.data<std::int32_t>()[0], 12);
  EXPECT_EQ(rows.data<std::int32_t>()[11], 23);
  EXPECT_EQ(x.rows(5, 5).numel(), 0);
}

TEST(Tensor, FlatTakesElementsOfAnySlice) {
  const Tensor part = counting({4, 6}).rows(1, 4).flat(5, {2, 3});
  EXPECT_EQ(part.data<std::int32_t>()[0], 11);
  EXPECT_EQ(part.data<std::int32_t>()[5], 16);
}

TEST(Tensor, RefusesViewsThatLeaveIt) {
  const Tensor x = counting({4, 6});
  EXPECT_THROW(x.view({5, 5}), InternalError);
  EXPECT_THROW(x.rows(3, 5), InternalError);
  EXPECT_THROW(x.rows(3, 2), InternalError);
  EXPECT_THROW(x.flat(20, {5}), InternalError);
  EXPECT_THROW(x.data<float>(), InternalError);
  EXPECT_THROW(Tensor().raw(), InternalError);
}

TEST(Tensor, StorageOutlivesTheTensorItCameFrom) {
  Tensor part;
  {
    const Tensor whole = counting({10});
    part = whole.rows(7, 10);
  }
  EXPECT_EQ(part.data<std::int32_t>()[2], 9);
}

TEST(Tensor, CopiesMayOverlap) {
  const Tensor x = counting({6});
  x.rows(1, 6).copy_from(x.rows(0, 5));
  const std::vector<std::int32_t> expected = {0, 0, 1, 2, 3, 4};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), x.data<std::int32_t>()));
  EXPECT_THROW(x.copy_from(counting({5})), InternalError);
  EXPECT_THROW(x.copy_from(Tensor::zeros({6}, DType::f32)), InternalError);
}

TEST(Tensor, ConvertsBetweenFloatsAndBetweenIntegers) {
  const std::vector<double> values = {1.00390625, -2.5, 1e-3};
  const Tensor x = Tensor::from<double>({3}, values);
  const Tensor single = x.to(DType::f32), half = x.to(DType::bf16);
  EXPECT_EQ(single.data<float>()[2], 1e-3f);
  EXPECT_EQ(static_cast<float>(half.data<BFloat16>()[0]), 1.0f);  // a tie, to even
  EXPECT_EQ(half.to(DType::f64).data<double>()[1], -2.5);
  EXPECT_EQ(counting({300}).to(DType::u16).data<std::uint16_t>()[299], 299);
  EXPECT_THROW(x.to(DType::i32), InternalError);
  EXPECT_THROW(Tensor::from<double>({4}, values), InternalError);
}

TEST(Tensor, ZerosOfADirtyBlock) {
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  {
    const Tensor dirty = Tensor::empty({100}, DType::f32, allocator);
    std::fill_n(dirty.data<float>(), 100, 7.0f);
  }
  const Tensor clean = Tensor::zeros({100}, DType::f32, allocator);
  for (const float value : clean.span<float>()) EXPECT_EQ(value, 0.0f);
}

}  // namespace
}  // namespace filigree
