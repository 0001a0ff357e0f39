// Matrix product by tiles: for f64, which oneDNN does not multiply, and for bf16 where the
// processor lacks bf16 arithmetic. b is packed once into panels of kPanel columns; a is read in
// place, since the tile product takes any strides. Each element is one chain of multiply-adds in
// ascending k, whatever the shape or the number of threads.
#include <algorithm>

#include "kernels/cpu/parallel_for.hpp"
#include "kernels/cpu/tile_kernels.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/matmul/matmul_implementations.hpp"

namespace filigree {

namespace {

// A block of a (kRows x kDepth) and of a panel (kDepth x kPanel) fit the second-level cache
// together.
constexpr std::int64_t kRows = 96;  // a multiple of the register blocks of 6, 8 and 12 rows
constexpr std::int64_t kPanel = 32;
constexpr std::int64_t kDepth = 256;

// panels[column / kPanel][p][column % kPanel] = B[p, column], zeros beyond the last column.
template <class T>
void pack_panel(const T* b, std::int64_t n, std::int64_t k, bool transposed, std::int64_t panel,
                T* packed) {
  const std::int64_t begin = panel * kPanel, count = std::min(kPanel, n - begin);
  for (std::int64_t p = 0; p < k; ++p) {
    T* const row = packed + p * kPanel;
    if (!transposed) std::copy_n(b + p * n + begin, count, row);
    std::fill(row + count, row + kPanel, T(0));
  }
  if (!transposed) return;
  constexpr std::int64_t kBlock = 8;  // a cache line of each of the panel's columns at a time
  for (std::int64_t block = 0; block < k; block += kBlock)
    for (std::int64_t j = 0; j < count; ++j)
      for (std::int64_t p = block; p < std::min(block + kBlock, k); ++p)
        packed[p * kPanel + j] = b[(begin + j) * k + p];
}

// One row of a tile: out = sum (+ out) (+ bias).
template <class T>
void store_row(const T* sum, const T* bias, bool accumulate, std::int64_t columns, T* out) {
  for (std::int64_t j = 0; j < columns; ++j) {
    const T total = accumulate ? out[j] + sum[j] : sum[j];
    out[j] = bias == nullptr ? total : total + bias[j];
  }
}

template <class T>
void multiply(const Matmul::Arguments& arguments, ExecutionContext& context) {
  const auto [m, n, k] = matmul_sizes(arguments);
  const std::int64_t panels = (n + kPanel - 1) / kPanel, row_tiles = (m + kRows - 1) / kRows;
  const Tensor packed = context.empty({panels, k, kPanel}, dtype_of<T>);
  T* const packed_b = packed.data<T>();
  const T* const a = arguments.a.data<T>();
  const T* const b = arguments.b.data<T>();
  const T* const bias = arguments.bias.defined() ? arguments.bias.data<T>() : nullptr;
  T* const c = arguments.c.data<T>();
  const TileKernels<T>& kernels = cpu_kernels().of<T>();
  // Starting threads costs more than a small product.
  const int threads = m * n * k < 32 * 1024 ? 1 : context.num_threads;
  parallel_for(panels, threads, [&, n = n, k = k](std::int64_t panel, int) {
    pack_panel(b, n, k, arguments.transpose_b, panel, packed_b + panel * k * kPanel);
  });
  parallel_for(row_tiles * panels, threads, [&, m = m, n = n, k = k](std::int64_t task, int) {
    const std::int64_t row = task / panels * kRows, rows = std::min(kRows, m - row);
    const std::int64_t panel = task % panels, column = panel * kPanel,
                       columns = std::min(kPanel, n - column);
    alignas(64) T sum[kRows * kPanel];
    for (std::int64_t p = 0; p < k; p += kDepth) {
      const T* const a_block = arguments.transpose_a ? a + p * m + row : a + row * k + p;
      kernels.product({rows, columns, std::min(kDepth, k - p), a_block,
                       arguments.transpose_a ? 1 : k, arguments.transpose_a ? m : 1,
                       packed_b + (panel * k + p) * kPanel, kPanel, sum, kPanel, p > 0});
    }
    for (std::int64_t i = 0; i < rows; ++i)
      store_row(sum + i * kPanel, bias == nullptr ? nullptr : bias + column, arguments.accumulate,
                columns, c + (row + i) * n + column);
  });
}

template <class From, class To>
void convert(const Tensor& from, const Tensor& to, int threads) {
  constexpr std::int64_t kChunk = 1 << 16;
  const std::int64_t count = from.numel();
  const From* const source = from.data<From>();
  To* const target = to.data<To>();
  parallel_for((count + kChunk - 1) / kChunk, threads, [=](std::int64_t chunk, int) {
    const std::int64_t end = std::min(count, (chunk + 1) * kChunk);
    for (std::int64_t i = chunk * kChunk; i < end; ++i) target[i] = static_cast<To>(source[i]);
  });
}

Tensor widened(const Tensor& narrow, ExecutionContext& context) {
  const Tensor wide = context.empty(narrow.shape(), DType::f32);
  convert<BFloat16, float>(narrow, wide, context.num_threads);
  return wide;
}

// In f32 copies of the operands; the f32 product is oneDNN's where it takes it.
void multiply_widened(const Matmul::Arguments& arguments, ExecutionContext& context) {
  Matmul::Arguments wide = arguments;
  wide.a = widened(arguments.a, context);
  wide.b = widened(arguments.b, context);
  const bool narrow = arguments.c.dtype() == DType::bf16;
  if (narrow) {
    wide.c = arguments.accumulate ? widened(arguments.c, context)
                                  : context.empty(arguments.c.shape(), DType::f32);
    if (arguments.bias.defined()) wide.bias = widened(arguments.bias, context);
  }
  if (matmul_onednn_reject(wide, context))
    multiply<float>(wide, context);
  else
    matmul_onednn(wide, context);
  if (narrow) convert<float, BFloat16>(wide.c, arguments.c, context.num_threads);
}

}  // namespace

void matmul_cpu(const Matmul::Arguments& arguments, ExecutionContext& context) {
  switch (arguments.a.dtype()) {
    case DType::f64:
      return multiply<double>(arguments, context);
    case DType::f32:
      return multiply<float>(arguments, context);
    default:
      return multiply_widened(arguments, context);
  }
}

}  // namespace filigree
