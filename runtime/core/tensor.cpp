#include "runtime/core/tensor.hpp"

#include <cstring>

namespace filigree {

Shape::Shape(std::span<const std::int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  FILIGREE_CHECK(sizes.size() <= kMaxRank, "rank ", sizes.size(), " is above ", kMaxRank);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    FILIGREE_CHECK(sizes[i] >= 0, "size ", sizes[i], " of dim ", i);
    sizes_[i] = sizes[i];
  }
}

std::int64_t Shape::operator[](int dim) const {
  const int index = dim < 0 ? dim + rank_ : dim;
  FILIGREE_CHECK(index >= 0 && index < rank_, "dim ", dim, " of a tensor of rank ", rank_);
  return sizes_[static_cast<std::size_t>(index)];
}

std::int64_t Shape::numel() const {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes()) count *= size;
  return count;
}

Shape Shape::with(int dim, std::int64_t size) const {
  Shape result = *this;
  (*this)[dim];  // range check
  result.sizes_[static_cast<std::size_t>(dim < 0 ? dim + rank_ : dim)] = size;
  return result;
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int d = 0; d < shape.rank(); ++d) out << (d == 0 ? "" : ", ") << shape[d];
  return out << ']';
}

struct Tensor::Storage {
  Storage(std::shared_ptr<Allocator> a, std::int64_t b, MemoryUse u)
      : allocator(std::move(a)), bytes(b), use(u), block(allocator->allocate(bytes, use)) {}
  ~Storage() { allocator->release(block, bytes, use); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::shared_ptr<Allocator> allocator;
  std::int64_t bytes;
  MemoryUse use;
  void* block;
};

Tensor Tensor::empty(const Shape& shape, DType dtype, const std::shared_ptr<Allocator>& allocator,
                     MemoryUse use) {
  Tensor result;
  result.shape_ = shape;
  result.dtype_ = dtype;
  result.storage_ = std::make_shared<Storage>(allocator, shape.numel() * size_of(dtype), use);
  return result;
}

namespace {
// What the host does to elements it does at once, without a stream.
void check_on_host(const Tensor& tensor) {
  FILIGREE_CHECK(tensor.device().kind == DeviceKind::cpu,
                 "the host touches elements of a tensor on an accelerator; copy them through its "
                 "stream");
}
}  // namespace

Tensor Tensor::zeros(const Shape& shape, DType dtype, const std::shared_ptr<Allocator>& allocator,
                     MemoryUse use) {
  Tensor result = empty(shape, dtype, allocator, use);
  result.zero();
  return result;
}

Device Tensor::device() const {
  FILIGREE_CHECK(defined(), "undefined tensor");
  return storage_->allocator->device();
}

void* Tensor::raw() const {
  FILIGREE_CHECK(defined(), "undefined tensor");
  return static_cast<std::byte*>(storage_->block) + offset_ * size_of(dtype_);
}

Tensor Tensor::view(const Shape& shape) const {
  FILIGREE_CHECK(shape.numel() == numel(), "view of ", shape_, " as ", shape);
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  FILIGREE_CHECK(rank() > 0 && 0 <= begin && begin <= end && end <= dim(0), "rows [", begin, ", ",
                 end, ") of ", shape_);
  Tensor result = *this;
  result.shape_ = shape_.with(0, end - begin);
  const std::int64_t row = dim(0) == 0 ? 0 : numel() / dim(0);
  result.offset_ += begin * row;
  return result;
}

Tensor Tensor::flat(std::int64_t begin, const Shape& shape) const {
  FILIGREE_CHECK(begin >= 0 && begin + shape.numel() <= numel(), "elements [", begin, ", ",
                 begin + shape.numel(), ") of ", shape_);
  Tensor result = *this;
  result.shape_ = shape;
  result.offset_ += begin;
  return result;
}

void Tensor::zero() const {
  check_on_host(*this);
  if (numel() > 0) std::memset(raw(), 0, static_cast<std::size_t>(bytes()));
}

void Tensor::copy_from(const Tensor& source) const {
  FILIGREE_CHECK(dtype_ == source.dtype_, "copy of ", name_of(source.dtype_), " to ",
                 name_of(dtype_));
  FILIGREE_CHECK(numel() == source.numel(), "copy of ", source.shape_, " to ", shape_);
  check_on_host(*this);
  check_on_host(source);
  if (numel() > 0) std::memmove(raw(), source.raw(), static_cast<std::size_t>(bytes()));
}

Tensor Tensor::clone(MemoryUse use) const {
  FILIGREE_CHECK(defined(), "undefined tensor");
  Tensor result = empty(shape_, dtype_, storage_->allocator, use);
  result.copy_from(*this);
  return result;
}

namespace {

template <class Visitor>
void visit_dtype(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return visitor(double{});
    case DType::f32:
      return visitor(float{});
    case DType::bf16:
      return visitor(BFloat16{});
    case DType::f16:
      return visitor(Float16{});
    case DType::i64:
      return visitor(std::int64_t{});
    case DType::i32:
      return visitor(std::int32_t{});
    case DType::u16:
      return visitor(std::uint16_t{});
    case DType::u8:
      return visitor(std::uint8_t{});
  }
  FILIGREE_CHECK(false, "no such dtype: ", static_cast<int>(dtype));
}

template <class T>
constexpr bool is_half = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class To, class From>
To converted(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (is_half<From>) {
    return converted<To>(static_cast<float>(value));
  } else if constexpr (is_half<To>) {
    return To(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace

Tensor Tensor::to(DType dtype) const {
  check_on_host(*this);
  FILIGREE_CHECK(is_floating(dtype) == is_floating(dtype_), "conversion of ", name_of(dtype_),
                 " to ", name_of(dtype));
  Tensor result = empty(shape_, dtype);
  visit_dtype(dtype_, [&](auto from) {
    visit_dtype(dtype, [&](auto to) {
      const auto* source = data<decltype(from)>();
      auto* target = result.data<decltype(to)>();
      for (std::int64_t i = 0, n = numel(); i < n; ++i)
        target[i] = converted<decltype(to)>(source[i]);
    });
  });
  return result;
}

}  // namespace filigree
