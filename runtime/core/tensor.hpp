// Tensor: a dense, row-major, contiguous array that shares its storage with its copies and views.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>

#include "runtime/core/device.hpp"
#include "runtime/core/dtype.hpp"
#include "runtime/core/error.hpp"
#include "runtime/core/memory.hpp"

namespace filigree {

// At most six sizes, outermost first. The empty shape is a scalar: one element.
class Shape {
 public:
  static constexpr int kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes)
      : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const { return rank_; }
  std::int64_t operator[](int dim) const;  // negative dims count from the end
  std::int64_t numel() const;
  Shape with(int dim, std::int64_t size) const;
  std::span<const std::int64_t> sizes() const { return {sizes_.data(), std::size_t(rank_)}; }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};
std::ostream& operator<<(std::ostream& out, const Shape& shape);

class Tensor {
 public:
  Tensor() = default;  // undefined; defined() is false

  static Tensor empty(const Shape& shape, DType dtype,
                      const std::shared_ptr<Allocator>& allocator = host_allocator(),
                      MemoryUse use = MemoryUse::workspace);
  static Tensor zeros(const Shape& shape, DType dtype,
                      const std::shared_ptr<Allocator>& allocator = host_allocator(),
                      MemoryUse use = MemoryUse::workspace);
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t dim(int d) const { return shape_[d]; }
  std::int64_t numel() const { return shape_.numel(); }
  std::int64_t bytes() const { return numel() * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const;

  void* raw() const;
  // Typed access; checks the dtype.
  template <class T>
  T* data() const {
    FILIGREE_CHECK(dtype_ == dtype_of<T>, "tensor is ", name_of(dtype_), ", asked for ",
                   name_of(dtype_of<T>));
    return static_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }

  // Views share storage.
  Tensor view(const Shape& shape) const;                      // same number of elements
  Tensor rows(std::int64_t begin, std::int64_t end) const;    // [begin, end) of dim 0
  Tensor flat(std::int64_t begin, const Shape& shape) const;  // `shape` from element `begin`
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }

  // Of host memory only, like `to`; stream.hpp copies to and from accelerators.
  void zero() const;
  void copy_from(const Tensor& source) const;  // same dtype and element count
  Tensor clone(MemoryUse use = MemoryUse::workspace) const;
  // A new host tensor with every element converted (between floating types, or between integers).
  Tensor to(DType dtype) const;

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  std::int64_t offset_ = 0;  // in elements
  Shape shape_;
  DType dtype_ = DType::f32;
};

template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values) {
  FILIGREE_CHECK_EQ(shape.numel(), static_cast<std::int64_t>(values.size()), "elements");
  Tensor result = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), result.data<T>());
  return result;
}

}  // namespace filigree
