// Functions on small tiles, compiled once per instruction set and chosen at run time. T is float or
// double.
//
// Tiles are row-major buffers whose rows start every multiple of kTileLanes<T> elements, so that
// whole vectors may be read and written past the last valid column. Padding must be initialised;
// what it holds never reaches valid elements.
#pragma once

#include <cstdint>

namespace filigree {

// Elements in 64 bytes, the widest vector of any instruction set here.
template <class T>
inline constexpr std::int64_t kTileLanes = 64 / static_cast<std::int64_t>(sizeof(T));

template <class T>
constexpr std::int64_t padded_to_lanes(std::int64_t count) {
  return (count + kTileLanes<T> - 1) / kTileLanes<T> * kTileLanes<T>;
}

// c[i,j] = (accumulate ? c[i,j] : 0) + sum_p a[i * a_row_stride + p * a_column_stride] * b[p,j]
// for i < m, j < n rounded up to kTileLanes. Every element is one chain of multiply-adds in
// ascending p, so its bits do not depend on m, n or the position in the tile.
template <class T>
struct TileProduct {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row_stride, a_column_stride;
  const T* b;
  std::int64_t b_stride;
  T* c;
  std::int64_t c_stride;
  bool accumulate;
};

// The running softmax of Milakov and Gimelshein 2018 ("Online normalizer calculation for softmax"),
// with one query in each lane. scores_KQ[j,i] holds <k[j], q[i]> on entry and p = exp(scale * score
// + bias - maximum[i]) on return; maximum, sum and the rows of values_DQ (what p has weighted so
// far) are brought to the new maximum.
template <class T>
struct TileSoftmax {
  std::int64_t keys, lanes,
      values;  // rows of scores_KQ; queries, a multiple of kTileLanes; rows of values_DQ
  T scale, bias;
  const T* first_keys;  // per lane: keys [first, last) may be seen; null: from 0
  const T* last_keys;   // null: all of them, and first_keys is null too
  T* scores_KQ;
  T* values_DQ;
  T* maximum;
  T* sum;
};

// scores_KQ[j,i] <- p = exp(scale * score + bias - lse[i]), 0 where not allowed; gradient_KQ[j,i],
// dp on entry, becomes scale * p * (dp - delta[i]), the gradient of <k[j], q[i]>. Arrays as in
// TileSoftmax.
template <class T>
struct TileSoftmaxGradient {
  std::int64_t keys, lanes;
  T scale, bias;
  const T* first_keys;
  const T* last_keys;
  const T* lse;
  const T* delta;
  T* scores_KQ;
  T* gradient_KQ;
  T* bias_gradient;  // += sum of p * (dp - delta); null: not wanted
};

// The same two with one query in each row and the keys of one block in the lanes, for query rows
// that were gathered. `keys` is a multiple of kTileLanes and the stride of scores; first_keys,
// last_keys and bias are per row, last_keys at most the valid keys.
template <class T>
struct RowTileSoftmax {
  std::int64_t rows, keys, values;  // values: columns of values_QD, a multiple of kTileLanes
  T scale;
  const T* first_keys;
  const T* last_keys;
  const T* bias;
  T* scores_QK;
  T* values_QD;
  T* maximum;
  T* sum;
};
template <class T>
struct RowTileSoftmaxGradient {
  std::int64_t rows, keys;
  T scale;
  const T* first_keys;
  const T* last_keys;
  const T* bias;
  const T* lse;
  const T* delta;
  T* scores_QK;
  T* gradient_QK;
  T* bias_gradient;  // per row, overwritten: sum of p * (dp - delta); null: not wanted
};

// One query against a run of keys, for decoding. score[j] = scale * <q, k[j]>.
template <class T>
struct RowScores {
  std::int64_t keys, head_dim;
  T scale;
  const T* q;
  const T* k;
  std::int64_t k_stride;
  T* score;
};

// p[j] = exp(score[j] - maximum) replaces score; out[d] = sum_j p[j] v[j,d]; returns sum_j p[j].
template <class T>
struct RowValues {
  std::int64_t keys, head_dim;
  T maximum;
  T* score;
  const T* v;
  std::int64_t v_stride;
  T* out;
};

template <class T>
struct TileKernels {
  void (*product)(const TileProduct<T>&);
  void (*softmax)(const TileSoftmax<T>&);
  void (*softmax_gradient)(const TileSoftmaxGradient<T>&);
  void (*row_softmax)(const RowTileSoftmax<T>&);
  void (*row_softmax_gradient)(const RowTileSoftmaxGradient<T>&);
  void (*row_scores)(const RowScores<T>&);
  T (*row_values)(const RowValues<T>&);
  // Multiply-adds on registers only, to measure the peak. Returns the floating-point operations
  // done; the results go to sink[0, kTileLanes) so that they are not optimised away.
  std::int64_t (*peak)(std::int64_t iterations, T* sink);
};

struct CpuKernels {
  const char* isa;
  TileKernels<float> f32;
  TileKernels<double> f64;

  template <class T>
  const TileKernels<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float))
      return f32;
    else
      return f64;
  }
};

// The best set that this processor runs.
const CpuKernels& cpu_kernels();

// Every set that this processor runs, the portable one first; null-terminated.
const CpuKernels* const* available_cpu_kernels();

}  // namespace filigree
