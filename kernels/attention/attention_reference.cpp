// Attention as its definition reads: one query at a time, one buffer as long as the keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention_implementations.hpp"
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

// The keys of one query, ascending.
struct ReadKey {
  std::int64_t key;
  std::int64_t slot;  // element of bias_BHNJ, -1: not chosen
};

std::vector<ReadKey> keys_of(const AttentionShape& s, const AttentionPattern& pattern,
                             std::int64_t b, std::int64_t h, std::int64_t i) {
  const std::int64_t position = i + s.query_offset;
  std::int64_t begin = 0, end = s.key_length;
  if (pattern.document_begin_T.defined()) {
    begin = pattern.document_begin_T.data<std::int32_t>()[b * s.key_length + position];
    end = pattern.document_end_T.data<std::int32_t>()[b * s.key_length + position];
  }
  const BlockLists& lists = pattern.lists;
  std::vector<std::int64_t> slot_of_block;
  if (lists.defined()) {
    const std::int64_t group = position / lists.query_block - s.query_offset / lists.query_block;
    const std::int64_t row = (b * s.query_heads + h) * lists.counts_BHN.dim(2) + group;
    const std::int64_t slots = lists.indices_BHNJ.dim(3);
    slot_of_block.assign(key_blocks(s, lists.key_block), -1);
    for (std::int64_t slot = 0; slot < lists.counts_BHN.data<std::int32_t>()[row]; ++slot)
      slot_of_block[lists.indices_BHNJ.data<std::int32_t>()[row * slots + slot]] =
          row * slots + slot;
  }
  std::vector<ReadKey> result;
  for (std::int64_t j = begin; j < end; ++j) {
    if (s.causal && j > position) break;
    const std::int64_t slot = lists.defined() ? slot_of_block[j / lists.key_block] : -1;
    const bool near = std::abs(position - j) < pattern.window;
    if (pattern.reads_everything() || slot >= 0 || near || j < begin + pattern.sinks)
      result.push_back({j, slot});
  }
  return result;
}

template <class Acc>
Acc bias_of(const AttentionPattern& pattern, const ReadKey& read) {
  if (!pattern.bias_BHNJ.defined() || read.slot < 0) return 0;
  return pattern.bias_BHNJ.data<Acc>()[read.slot];
}

template <class T>
void forward(const AttentionForward::Arguments& a) {
  using Acc = Accumulator<T>;
  constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();
  const AttentionShape& s = a.shape;
  const std::int64_t group = s.query_heads / s.kv_heads;
  std::vector<Acc> p(s.key_length), o(s.head_dim);
  for_each_row(s, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const T* q = head_row<T>(a.q_THK, s, b * s.query_length + i, h);
    const std::vector<ReadKey> keys = keys_of(s, a.pattern, b, h, i);
    Acc maximum = kMinusInfinity;
    for (std::size_t n = 0; n < keys.size(); ++n) {
      const T* k = head_row<T>(a.k_TGK, s, b * s.key_length + keys[n].key, h / group);
      p[n] = Acc(s.scale) * dot<Acc>(q, k, s.head_dim) + bias_of<Acc>(a.pattern, keys[n]);
      maximum = std::max(maximum, p[n]);
    }
    const bool is_empty = maximum == kMinusInfinity;
    Acc sum = 0;
    std::fill(o.begin(), o.end(), Acc(0));
    for (std::size_t n = 0; n < keys.size() && !is_empty; ++n) {
      p[n] = std::exp(p[n] - maximum);
      sum += p[n];
      const T* v = head_row<T>(a.v_TGK, s, b * s.key_length + keys[n].key, h / group);
      for (std::int64_t d = 0; d < s.head_dim; ++d) o[d] += p[n] * static_cast<Acc>(v[d]);
    }
    T* out = head_row<T>(a.o_THK, s, b * s.query_length + i, h);
    for (std::int64_t d = 0; d < s.head_dim; ++d)
      out[d] = static_cast<T>(is_empty ? Acc(0) : o[d] / sum);
    a.lse_BHS.data<Acc>()[(b * s.query_heads + h) * s.query_length + i] =
        is_empty ? kMinusInfinity : maximum + std::log(sum);
  });
}

template <class T>
void backward(const AttentionBackward::Arguments& a) {
  using Acc = Accumulator<T>;
  const AttentionShape& s = a.shape;
  const std::int64_t group = s.query_heads / s.kv_heads;
  std::vector<Acc> dk(a.dk_TGK.numel()), dv(a.dv_TGK.numel()), dq(s.head_dim);
  if (a.dbias_BHNJ.defined()) a.dbias_BHNJ.zero();
  for_each_row(s, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    const std::int64_t token = b * s.query_length + i;
    const T* q = head_row<T>(a.q_THK, s, token, h);
    const T* d_o = head_row<T>(a.do_THK, s, token, h);
    const Acc delta = dot<Acc>(d_o, head_row<T>(a.o_THK, s, token, h), s.head_dim);
    const Acc lse = a.lse_BHS.data<Acc>()[(b * s.query_heads + h) * s.query_length + i];
    const bool is_empty = lse == -std::numeric_limits<Acc>::infinity();
    std::fill(dq.begin(), dq.end(), Acc(0));
    for (const ReadKey& read : keys_of(s, a.pattern, b, h, i)) {
      if (is_empty) break;
      const std::int64_t key = b * s.key_length + read.key;
      const T* k = head_row<T>(a.k_TGK, s, key, h / group);
      const T* v = head_row<T>(a.v_TGK, s, key, h / group);
      const Acc p =
          std::exp(Acc(s.scale) * dot<Acc>(q, k, s.head_dim) + bias_of<Acc>(a.pattern, read) - lse);
      const Acc dlogit = p * (dot<Acc>(d_o, v, s.head_dim) - delta), ds = Acc(s.scale) * dlogit;
      if (a.dbias_BHNJ.defined() && read.slot >= 0) a.dbias_BHNJ.data<Acc>()[read.slot] += dlogit;
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
