// Attention as its definition reads: one query at a time, one buffer as long as the keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/key_tiles.hpp"
#include "kernels/elementwise/floating.hpp"

namespace filigree {

namespace {

// Row `token` of head `head` in a token-major tensor.
template <class T>
T* head_row(const Tensor& tensor, const AttentionShape& shape, std::int64_t token,
            std::int64_t head) {
  return tensor.data<T>() + token * tensor.dim(1) + head * shape.head_dim;
}

template <class Acc, class T>
Acc dot(const T* x, const T* y, std::int64_t count) {
  Acc sum = 0;
  for (std::int64_t d = 0; d < count; ++d) sum += static_cast<Acc>(x[d]) * static_cast<Acc>(y[d]);
  return sum;
}

// Calls row(batch, head, query) for every row of every head, heads and queries ascending.
template <class Row>
void for_each_row(const AttentionShape& shape, const Row& row) {
  for (std::int64_t b = 0; b < shape.batch; ++b)
    for (std::int64_t h = 0; h < shape.query_heads; ++h)
      for (std::int64_t i = 0; i < shape.query_length; ++i) row(b, h, i);
}

template <class T>
void forward(const AttentionForward::Arguments& a) {
  using Acc = Accumulator<T>;
  const AttentionShape& s = a.shape;
  const std::int64_t group = s.query_heads / s.kv_heads;
  std::vector<Acc> p(s.key_length), o(s.head_dim);
  for_each_row(s, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const T* q = head_row<T>(a.q_THK, s, b * s.query_length + i, h);
    const std::int64_t keys = visible_keys(s, i);
    Acc maximum = -std::numeric_limits<Acc>::infinity();
    for (std::int64_t j = 0; j < keys; ++j) {
      p[j] = Acc(s.scale) *
             dot<Acc>(q, head_row<T>(a.k_TGK, s, b * s.key_length + j, h / group), s.head_dim);
      maximum = std::max(maximum, p[j]);
    }
    Acc sum = 0;
    std::fill(o.begin(), o.end(), Acc(0));
    for (std::int64_t j = 0; j < keys; ++j) {
      p[j] = std::exp(p[j] - maximum);
      sum += p[j];
      const T* v = head_row<T>(a.v_TGK, s, b * s.key_length + j, h / group);
      for (std::int64_t d = 0; d < s.head_dim; ++d) o[d] += p[j] * static_cast<Acc>(v[d]);
    }
    T* out = head_row<T>(a.o_THK, s, b * s.query_length + i, h);
    for (std::int64_t d = 0; d < s.head_dim; ++d)
      out[d] = static_cast<T>(keys == 0 ? Acc(0) : o[d] / sum);
    a.lse_BHS.data<Acc>()[(b * s.query_heads + h) * s.query_length + i] =
        keys == 0 ? -std::numeric_limits<Acc>::infinity() : maximum + std::log(sum);
  });
}

template <class T>
void backward(const AttentionBackward::Arguments& a) {
  using Acc = Accumulator<T>;
  const AttentionShape& s = a.shape;
  const std::int64_t group = s.query_heads / s.kv_heads;
  std::vector<Acc> dk(a.dk_TGK.numel()), dv(a.dv_TGK.numel()), dq(s.head_dim);
  for_each_row(s, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const std::int64_t token = b * s.query_length + i;
    const T* q = head_row<T>(a.q_THK, s, token, h);
    const T* d_o = head_row<T>(a.do_THK, s, token, h);
    const Acc delta = dot<Acc>(d_o, head_row<T>(a.o_THK, s, token, h), s.head_dim);
    const Acc lse = a.lse_BHS.data<Acc>()[(b * s.query_heads + h) * s.query_length + i];
    std::fill(dq.begin(), dq.end(), Acc(0));
    for (std::int64_t j = 0; j < visible_keys(s, i); ++j) {
      const std::int64_t key = b * s.key_length + j;
      const T* k = head_row<T>(a.k_TGK, s, key, h / group);
      const T* v = head_row<T>(a.v_TGK, s, key, h / group);
      const Acc p = std::exp(Acc(s.scale) * dot<Acc>(q, k, s.head_dim) - lse);
      const Acc ds = Acc(s.scale) * p * (dot<Acc>(d_o, v, s.head_dim) - delta);
      const std::int64_t at = key * a.dk_TGK.dim(1) + h / group * s.head_dim;
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        dv[at + d] += p * static_cast<Acc>(d_o[d]);
        dk[at + d] += ds * static_cast<Acc>(q[d]);
        dq[d] += ds * static_cast<Acc>(k[d]);
      }
    }
    T* out = head_row<T>(a.dq_THK, s, token, h);
    for (std::int64_t d = 0; d < s.head_dim; ++d) out[d] = static_cast<T>(dq[d]);
  });
  for (std::size_t e = 0; e < dk.size(); ++e) {
    a.dk_TGK.data<T>()[e] = static_cast<T>(dk[e]);
    a.dv_TGK.data<T>()[e] = static_cast<T>(dv[e]);
  }
}

}  // namespace

void attention_forward_reference(const AttentionForward::Arguments& arguments, ExecutionContext&) {
  check_arguments(arguments);
  visit_floating(arguments.q_THK.dtype(), [&](auto type) { forward<decltype(type)>(arguments); });
}

void attention_backward_reference(const AttentionBackward::Arguments& arguments,
                                  ExecutionContext&) {
  check_arguments(arguments);
  visit_floating(arguments.q_THK.dtype(), [&](auto type) { backward<decltype(type)>(arguments); });
}

}  // namespace filigree
