// The body of tile_kernels.hpp, included once by each tile_kernels_<isa>.cpp, which defines
//   FILIGREE_TILE_ISA          name of the namespace and of the set
//   FILIGREE_TILE_VECTOR_BYTES bytes of a vector register
//   FILIGREE_TILE_ROWS         rows of the register block of a product (two vectors wide)
// Nothing of the standard library is used here: an inline function compiled for a newer instruction
// set could be chosen by the linker for the whole program. These files alone are compiled with
// -ffp-contract=fast.

namespace filigree::FILIGREE_TILE_ISA {
namespace {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES)));
  typedef float unaligned
      __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES), aligned(4), may_alias));
  typedef std::int32_t integer __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES)));
  typedef double unaligned
      __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES), aligned(8), may_alias));
  typedef std::int64_t integer __attribute__((vector_size(FILIGREE_TILE_VECTOR_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kWidth = FILIGREE_TILE_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
inline __attribute__((always_inline)) Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}
template <class T>
inline __attribute__((always_inline)) void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}
template <class T>
inline __attribute__((always_inline)) Vector<T> splat(T value) {
  // x - 0 is x for every x and costs nothing; x + 0 is not, for -0, and is computed.
  return value - Vector<T>{};
}
template <class T>
inline __attribute__((always_inline)) T add_lanes(Vector<T> value) {
  T sum = 0;
  for (int i = 0; i < kWidth<T>; ++i) sum += value[i];
  return sum;
}

// exp(x) for x <= 0 to about one unit in the last place, 0 below the smallest normal result (and
// for -infinity). x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts (Cody and Waite 1980); f32
// uses the polynomial of the Cephes library's expf, f64 the Taylor series to degree 13, whose
// remainder is below 2^-58. Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in
// the low bits, from where it is shifted into the exponent.
inline __attribute__((always_inline)) Vector<float> exp_nonpositive(Vector<float> x) {
  const auto in_range = x >= -87.0f;
  x = in_range ? x : splat(-87.0f);
  const Vector<float> shifted = x * 1.44269504f + 12582912.0f;
  const Vector<float> n = shifted - 12582912.0f;
  Vector<float> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vector<float> p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  using Integer = VectorOf<float>::integer;
  const auto scaled = reinterpret_cast<Integer>(p) + (reinterpret_cast<Integer>(shifted) << 23);
  return in_range ? reinterpret_cast<Vector<float>>(scaled) : splat(0.0f);
}

inline __attribute__((always_inline)) Vector<double> exp_nonpositive(Vector<double> x) {
  const auto in_range = x >= -708.0;
  x = in_range ? x : splat(-708.0);
  const Vector<double> shifted = x * 1.4426950408889634 + 6755399441055744.0;
  const Vector<double> n = shifted - 6755399441055744.0;
  Vector<double> r = x - n * 6.93145751953125e-1;
  r = r - n * 1.42860682030941723212e-6;
  double inverse_factorial[14] = {1.0};
  for (int i = 1; i < 14; ++i) inverse_factorial[i] = inverse_factorial[i - 1] / i;
  Vector<double> p = splat(inverse_factorial[13]);
#pragma GCC unroll 13
  for (int i = 12; i >= 0; --i) p = p * r + inverse_factorial[i];
  using Integer = VectorOf<double>::integer;
  const auto scaled = reinterpret_cast<Integer>(p) + (reinterpret_cast<Integer>(shifted) << 52);
  return in_range ? reinterpret_cast<Vector<double>>(scaled) : splat(0.0);
}

// Register block: R rows and C vectors of c.
template <class T, int R, int C>
inline __attribute__((always_inline)) void block_product(const TileProduct<T>& t, std::int64_t row,
                                                         std::int64_t column) {
  Vector<T> sum[R][C];
  T* const c = t.c + row * t.c_stride + column;
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j)
      sum[i][j] = t.accumulate ? load(c + i * t.c_stride + j * kWidth<T>) : Vector<T>{};
  const T* a = t.a + row * t.a_row_stride;
  const T* b = t.b + column;
  for (std::int64_t p = 0; p < t.k; ++p, a += t.a_column_stride, b += t.b_stride) {
    Vector<T> right[C];
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) right[j] = load(b + j * kWidth<T>);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vector<T> left = splat(a[i * t.a_row_stride]);
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) store(c + i * t.c_stride + j * kWidth<T>, sum[i][j]);
}

template <class T, int C>
void column_panel(const TileProduct<T>& t, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + FILIGREE_TILE_ROWS <= t.m; row += FILIGREE_TILE_ROWS)
    block_product<T, FILIGREE_TILE_ROWS, C>(t, row, column);
  if (row + 4 <= t.m) {
    block_product<T, 4, C>(t, row, column);
    row += 4;
  }
  for (; row < t.m; ++row) block_product<T, 1, C>(t, row, column);
}

template <class T>
void product(const TileProduct<T>& t) {
  const std::int64_t columns = (t.n + kTileLanes<T> - 1) / kTileLanes<T> * kTileLanes<T>;
  std::int64_t column = 0;
  for (; column + 2 * kWidth<T> <= columns; column += 2 * kWidth<T>) column_panel<T, 2>(t, column);
  if (column < columns) column_panel<T, 1>(t, column);
}

template <class T>
inline __attribute__((always_inline)) Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

// value where first <= key < last, else `otherwise`.
template <class T>
inline __attribute__((always_inline)) Vector<T> mask_keys(Vector<T> value, std::int64_t key,
                                                          const T* first, const T* last,
                                                          T otherwise) {
  const Vector<T> here = splat(static_cast<T>(key));
  value = here < load(last) ? value : splat(otherwise);
  if (first) value = here < load(first) ? splat(otherwise) : value;
  return value;
}

template <class T>
void softmax(const TileSoftmax<T>& arguments) {
  const TileSoftmax<T> t = arguments;  // a copy that stores to the tiles cannot alias
  const T minus_infinity = -static_cast<T>(__builtin_inff());
  for (std::int64_t lane = 0; lane < t.lanes; lane += kWidth<T>) {
    const Vector<T> old_maximum = load(t.maximum + lane);
    Vector<T> maximum = old_maximum;
    T* const scores = t.scores_KQ + lane;
    const T* const first = t.first_keys ? t.first_keys + lane : nullptr;
    for (std::int64_t j = 0; j < t.keys; ++j) {
      Vector<T> s = load(scores + j * t.lanes) * t.scale + t.bias;
      if (t.last_keys) s = mask_keys(s, j, first, t.last_keys + lane, minus_infinity);
      store(scores + j * t.lanes, s);
      maximum = larger<T>(maximum, s);
    }
    // A query that has seen no allowed key keeps -infinity, but must not subtract it from itself.
    const Vector<T> subtracted = maximum == splat(minus_infinity) ? Vector<T>{} : maximum;
    const Vector<T> correction = exp_nonpositive(old_maximum - subtracted);
    Vector<T> sum = load(t.sum + lane) * correction;
    for (std::int64_t j = 0; j < t.keys; ++j) {
      const Vector<T> p = exp_nonpositive(load(scores + j * t.lanes) - subtracted);
      store(scores + j * t.lanes, p);
      sum += p;
    }
    store(t.maximum + lane, maximum);
    store(t.sum + lane, sum);
    T* const values = t.values_DQ + lane;
    for (std::int64_t d = 0; d < t.values; ++d)
      store(values + d * t.lanes, load(values + d * t.lanes) * correction);
  }
}

template <class T, bool kBiasGradient>
inline __attribute__((always_inline)) void softmax_gradient_tile(const TileSoftmaxGradient<T>& t) {
  Vector<T> total{};
  for (std::int64_t lane = 0; lane < t.lanes; lane += kWidth<T>) {
    const Vector<T> lse = load(t.lse + lane) - t.bias, delta = load(t.delta + lane);
    const T* const first = t.first_keys ? t.first_keys + lane : nullptr;
    for (std::int64_t j = 0; j < t.keys; ++j) {
      T* const score = t.scores_KQ + j * t.lanes + lane;
      T* const gradient = t.gradient_KQ + j * t.lanes + lane;
      // Rounding can bring the recomputed exponent above 0 by a few units in the last place; exp
      // takes that.
      Vector<T> p = exp_nonpositive(load(score) * t.scale - lse);
      if (t.last_keys) p = mask_keys(p, j, first, t.last_keys + lane, T(0));
      store(score, p);
      const Vector<T> dlogit = p * (load(gradient) - delta);
      store(gradient, dlogit * t.scale);
      if constexpr (kBiasGradient) total += dlogit;
    }
  }
  if constexpr (kBiasGradient) *t.bias_gradient += add_lanes<T>(total);
}

template <class T>
void softmax_gradient(const TileSoftmaxGradient<T>& arguments) {
  const TileSoftmaxGradient<T> t = arguments;
  if (t.bias_gradient)
    softmax_gradient_tile<T, true>(t);
  else
    softmax_gradient_tile<T, false>(t);
}

// In logarithmically many steps: halves of a register are registers of their own.
template <class T, int W, class Combine>
inline __attribute__((always_inline)) T reduce_lanes(const T* lanes, const Combine& combine) {
  if constexpr (W == 2) {
    return combine(lanes[0], lanes[1]);
  } else {
    typedef T Half __attribute__((vector_size(W / 2 * sizeof(T))));
    Half low, high;
    __builtin_memcpy(&low, lanes, sizeof low);
    __builtin_memcpy(&high, lanes + W / 2, sizeof high);
    const Half both = combine(low, high);
    T stored[W / 2];
    __builtin_memcpy(stored, &both, sizeof both);
    return reduce_lanes<T, W / 2>(stored, combine);
  }
}
template <class T, class Combine>
inline __attribute__((always_inline)) T reduce_vector(Vector<T> value, const Combine& combine) {
  T lanes[kWidth<T>];
  __builtin_memcpy(lanes, &value, sizeof value);
  return reduce_lanes<T, kWidth<T>>(lanes, combine);
}
struct Sum {
  template <class V>
  inline __attribute__((always_inline)) V operator()(V a, V b) const {
    return a + b;
  }
};
struct Largest {
  template <class V>
  inline __attribute__((always_inline)) V operator()(V a, V b) const {
    return a > b ? a : b;
  }
};

template <class T>
inline __attribute__((always_inline)) Vector<T> lane_numbers() {
  Vector<T> numbers{};
  for (int i = 0; i < kWidth<T>; ++i) numbers[i] = static_cast<T>(i);
  return numbers;
}

// value in the lanes whose key, `begin` + lane, is in [first, last), else `otherwise`.
template <class T>
inline __attribute__((always_inline)) Vector<T> mask_lanes(Vector<T> value, std::int64_t begin,
                                                           T first, T last, T otherwise) {
  const Vector<T> key = lane_numbers<T>() + static_cast<T>(begin);
  value = key < splat(last) ? value : splat(otherwise);
  return key < splat(first) ? splat(otherwise) : value;
}

template <class T>
void row_softmax(const RowTileSoftmax<T>& arguments) {
  const RowTileSoftmax<T> t = arguments;
  const T minus_infinity = -static_cast<T>(__builtin_inff());
  for (std::int64_t i = 0; i < t.rows; ++i) {
    T* const scores = t.scores_QK + i * t.keys;
    const T first = t.first_keys[i], last = t.last_keys[i];
    const bool masked = first > 0 || last < static_cast<T>(t.keys);
    Vector<T> largest = splat(t.maximum[i]);
    for (std::int64_t j = 0; j < t.keys; j += kWidth<T>) {
      Vector<T> s = load(scores + j) * t.scale + t.bias[i];
      if (masked) s = mask_lanes<T>(s, j, first, last, minus_infinity);
      store(scores + j, s);
      largest = larger<T>(largest, s);
    }
    const T maximum = reduce_vector<T>(largest, Largest{});
    const T subtracted = maximum == minus_infinity ? T(0) : maximum;
    const T correction = exp_nonpositive(splat(t.maximum[i] - subtracted))[0];
    Vector<T> sum{};
    for (std::int64_t j = 0; j < t.keys; j += kWidth<T>) {
      const Vector<T> p = exp_nonpositive(load(scores + j) - subtracted);
      store(scores + j, p);
      sum += p;
    }
    t.sum[i] = t.sum[i] * correction + reduce_vector<T>(sum, Sum{});
    t.maximum[i] = maximum;
    T* const values = t.values_QD + i * t.values;
    for (std::int64_t d = 0; d < t.values; d += kWidth<T>)
      store(values + d, load(values + d) * correction);
  }
}

template <class T>
void row_softmax_gradient(const RowTileSoftmaxGradient<T>& arguments) {
  const RowTileSoftmaxGradient<T> t = arguments;
  for (std::int64_t i = 0; i < t.rows; ++i) {
    const T first = t.first_keys[i], last = t.last_keys[i], delta = t.delta[i];
    const T lse = t.lse[i] - t.bias[i];
    const bool masked = first > 0 || last < static_cast<T>(t.keys);
    Vector<T> total{};
    for (std::int64_t j = 0; j < t.keys; j += kWidth<T>) {
      T* const score = t.scores_QK + i * t.keys + j;
      T* const gradient = t.gradient_QK + i * t.keys + j;
      Vector<T> p = exp_nonpositive(load(score) * t.scale - lse);
      if (masked) p = mask_lanes<T>(p, j, first, last, T(0));
      store(score, p);
      const Vector<T> difference = load(gradient) - delta;
      store(gradient, p * difference * t.scale);
      total += p * difference;
    }
    if (t.bias_gradient) t.bias_gradient[i] = reduce_vector<T>(total, Sum{});
  }
}

// Four keys at a time, so that four chains of multiply-adds are in flight.
template <class T, int N>
inline __attribute__((always_inline)) void dot_keys(const RowScores<T>& t, std::int64_t key) {
  const T* const k = t.k + key * t.k_stride;
  Vector<T> sum[N];
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) sum[j] = Vector<T>{};
  std::int64_t d = 0;
  for (; d + kWidth<T> <= t.head_dim; d += kWidth<T>) {
    const Vector<T> q = load(t.q + d);
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sum[j] += q * load(k + j * t.k_stride + d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    T total = add_lanes<T>(sum[j]);
    for (std::int64_t rest = d; rest < t.head_dim; ++rest)
      total += t.q[rest] * k[j * t.k_stride + rest];
    t.score[key + j] = total * t.scale;
  }
}

template <class T>
void row_scores(const RowScores<T>& t) {
  std::int64_t key = 0;
  for (; key + 4 <= t.keys; key += 4) dot_keys<T, 4>(t, key);
  for (; key < t.keys; ++key) dot_keys<T, 1>(t, key);
}

template <class T, int C>
inline __attribute__((always_inline)) void weigh_values(const RowValues<T>& t, std::int64_t d) {
  Vector<T> sum[C];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) sum[c] = Vector<T>{};
  const T* v = t.v + d;
  for (std::int64_t j = 0; j < t.keys; ++j, v += t.v_stride) {
    const Vector<T> p = splat(t.score[j]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) sum[c] += p * load(v + c * kWidth<T>);
  }
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) store(t.out + d + c * kWidth<T>, sum[c]);
}

template <class T>
T row_values(const RowValues<T>& t) {
  T total = 0;
  std::int64_t j = 0;
  for (; j + kWidth<T> <= t.keys; j += kWidth<T>) {
    const Vector<T> p = exp_nonpositive(load(t.score + j) - t.maximum);
    store(t.score + j, p);
    total += add_lanes<T>(p);
  }
  for (; j < t.keys; ++j) {
    t.score[j] = exp_nonpositive(splat(t.score[j] - t.maximum))[0];
    total += t.score[j];
  }
  std::int64_t d = 0;
  for (; d + 4 * kWidth<T> <= t.head_dim; d += 4 * kWidth<T>) weigh_values<T, 4>(t, d);
  for (; d + kWidth<T> <= t.head_dim; d += kWidth<T>) weigh_values<T, 1>(t, d);
  for (; d < t.head_dim; ++d) {
    T sum = 0;
    for (j = 0; j < t.keys; ++j) sum += t.score[j] * t.v[j * t.v_stride + d];
    t.out[d] = sum;
  }
  return total;
}

template <class T>
std::int64_t peak(std::int64_t iterations, T* sink) {
  constexpr int kChains =
      12;  // enough to cover latency 4 with two units, few enough for 16 registers
  Vector<T> sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = splat(sink[i % kTileLanes<T>]);
  const Vector<T> factor = splat(sink[0]), term = splat(sink[1]);
  for (std::int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * factor + term;
  }
  Vector<T> total = sum[0];
  for (int i = 1; i < kChains; ++i) total += sum[i];
  for (std::int64_t lane = 0; lane < kTileLanes<T>; ++lane) sink[lane] = total[lane % kWidth<T>];
  return iterations * kChains * kWidth<T> * 2;
}

template <class T>
constexpr TileKernels<T> table() {
  return {product<T>,
          softmax<T>,
          softmax_gradient<T>,
          row_softmax<T>,
          row_softmax_gradient<T>,
          row_scores<T>,
          row_values<T>,
          peak<T>};
}

}  // namespace

#define FILIGREE_TILE_TEXT_OF(name) #name
#define FILIGREE_TILE_TEXT(name) FILIGREE_TILE_TEXT_OF(name)
extern const CpuKernels kKernels;
const CpuKernels kKernels = {FILIGREE_TILE_TEXT(FILIGREE_TILE_ISA), table<float>(),
                             table<double>()};
#undef FILIGREE_TILE_TEXT
#undef FILIGREE_TILE_TEXT_OF

}  // namespace filigree::FILIGREE_TILE_ISA
