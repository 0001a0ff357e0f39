#include <algorithm>
#include <limits>

#include "kernels/elementwise/floating.hpp"
#include "kernels/gate/pooling.hpp"

namespace filigree {
namespace {

// Calls visit(block, counted over all sequences, first row, rows) for every block.
template <class Visit>
void for_each_block(std::int64_t batch, const Tensor& tokens, std::int64_t size,
                    const Visit& visit) {
  const std::int64_t length = batch == 0 ? 0 : tokens.dim(0) / batch;
  std::int64_t block = 0;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t begin = 0; begin < length; begin += size)
      visit(block++, b * length + begin, std::min(size, length - begin));
}

}  // namespace

void BlockMeanKeys::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.k_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.k_TC.dim(1);
    for_each_block(a.batch, a.k_TC, a.key_block, [&](auto m, auto first, auto rows) {
      for (std::int64_t c = 0; c < C; ++c) {
        Accumulator<T> sum = 0;
        for (std::int64_t t = first; t < first + rows; ++t)
          sum += widened(a.k_TC.data<T>()[t * C + c]);
        a.kbar_MC.data<T>()[m * C + c] = rounded<T>(sum / static_cast<Accumulator<T>>(rows));
      }
    });
  });
}

void BlockMeanKeysBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.dk_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.dk_TC.dim(1);
    for_each_block(a.batch, a.dk_TC, a.key_block, [&](auto m, auto first, auto rows) {
      for (std::int64_t t = first; t < first + rows; ++t)
        for (std::int64_t c = 0; c < C; ++c)
          a.dk_TC.data<T>()[t * C + c] = rounded<T>(widened(a.dkbar_MC.data<T>()[m * C + c]) /
                                                    static_cast<Accumulator<T>>(rows));
    });
  });
}

void GroupQueries::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.q_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.q_TC.dim(1);
    for_each_block(a.batch, a.q_TC, a.query_block, [&](auto n, auto first, auto) {
      for (std::int64_t c = 0; c < C; ++c)
        a.qg_NC.data<T>()[n * C + c] = a.q_TC.data<T>()[first * C + c];
    });
  });
}

void GroupQueriesBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.dq_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.dq_TC.dim(1);
    for_each_block(a.batch, a.dq_TC, a.query_block, [&](auto n, auto first, auto rows) {
      for (std::int64_t t = first; t < first + rows; ++t)
        for (std::int64_t c = 0; c < C; ++c)
          a.dq_TC.data<T>()[t * C + c] = t == first ? a.dqg_NC.data<T>()[n * C + c] : T{};
    });
  });
}

void GroupMeanQueries::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.q_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.q_TC.dim(1);
    const auto in_document_of = [&](std::int64_t first, std::int64_t t) {
      if (!a.document_begin_T.defined()) return true;
      const auto* begin = a.document_begin_T.data<std::int32_t>();
      return begin[t] == begin[first];
    };
    for_each_block(a.batch, a.q_TC, a.query_block, [&](auto n, auto first, auto rows) {
      for (std::int64_t c = 0; c < C; ++c) {
        Accumulator<T> sum = 0, count = 0;
        for (std::int64_t t = first; t < first + rows; ++t) {
          if (!in_document_of(first, t)) continue;
          sum += widened(a.q_TC.data<T>()[t * C + c]);
          count += 1;
        }
        a.qg_NC.data<T>()[n * C + c] = rounded<T>(sum / count);
      }
    });
  });
}

void BlockMaxMinMeanKeys::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.k_TGK.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    const std::int64_t C = a.k_TGK.dim(1), K = C / a.kv_heads;
    for_each_block(a.batch, a.k_TGK, a.key_block, [&](auto m, auto first, auto rows) {
      for (std::int64_t c = 0; c < C; ++c) {
        A largest = -std::numeric_limits<A>::infinity(), smallest = -largest, sum = 0;
        for (std::int64_t t = first; t < first + rows; ++t) {
          const A key = widened(a.k_TGK.data<T>()[t * C + c]);
          largest = std::max(largest, key);
          smallest = std::min(smallest, key);
          sum += key;
        }
        T* const to = a.kp_MGP.data<T>() + m * 3 * C + c / K * 3 * K + c % K;
        to[0] = rounded<T>(largest);
        to[K] = rounded<T>(smallest);
        to[2 * K] = rounded<T>(sum / static_cast<A>(rows));
      }
    });
  });
}

void BlockMaxMinMeanKeysBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.k_TGK.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    const std::int64_t C = a.k_TGK.dim(1), K = C / a.kv_heads;
    for_each_block(a.batch, a.k_TGK, a.key_block, [&](auto m, auto first, auto rows) {
      for (std::int64_t c = 0; c < C; ++c) {
        const auto key = [&](std::int64_t t) { return widened(a.k_TGK.data<T>()[t * C + c]); };
        const T* const dkp = a.dkp_MGP.data<T>() + m * 3 * C + c / K * 3 * K + c % K;
        std::int64_t largest = first, smallest = first;
        for (std::int64_t t = first; t < first + rows; ++t) {
          if (key(t) > key(largest)) largest = t;
          if (key(t) < key(smallest)) smallest = t;
        }
        for (std::int64_t t = first; t < first + rows; ++t) {
          A sum = widened(dkp[2 * K]) / static_cast<A>(rows);
          if (t == largest) sum += widened(dkp[0]);
          if (t == smallest) sum += widened(dkp[K]);
          a.dk_TGK.data<T>()[t * C + c] = rounded<T>(sum);
        }
      }
    });
  });
}

}  // namespace filigree
