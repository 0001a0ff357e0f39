#include <algorithm>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/gate/pooling.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kColumns = 64;  // sums that stay in registers or the first-level cache

// The rows [first, first + rows) of a block.
struct Block {
  std::int64_t first, rows;
};

// body(the block's first row in `tokens`, its row in `pooled`, Block) for every block of `size`
// tokens of every sequence, in parallel.
template <class Body>
void for_each_block(const ExecutionContext& context, std::int64_t batch, std::int64_t size,
                    const Tensor& tokens, const Tensor& pooled, const Body& body) {
  const std::int64_t length = batch == 0 ? 0 : tokens.dim(0) / batch, columns = tokens.dim(1);
  const std::int64_t per_sequence = (length + size - 1) / size, elements = size * columns;
  visit_floating(tokens.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto visit = [&](std::int64_t index) {
      const std::int64_t begin = index % per_sequence * size;
      const Block block{index / per_sequence * length + begin, std::min(size, length - begin)};
      body(tokens.data<T>() + block.first * columns, pooled.data<T>() + index * pooled.dim(1),
           block);
    };
    for_each_chunk(context, batch * per_sequence, rows_per_chunk(elements), elements,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t index = begin; index < end; ++index) visit(index);
                   });
  });
}

// to[c] = finish(the fold of combine over the `count` rows, in ascending order, from the first on).
// Rows are `stride` apart.
template <class T, class Combine, class Finish>
void fold_rows(const T* rows, std::int64_t count, std::int64_t stride, std::int64_t columns, T* to,
               const Combine& combine, const Finish& finish) {
  for (std::int64_t begin = 0; begin < columns; begin += kColumns) {
    const std::int64_t width = std::min(kColumns, columns - begin);
    Accumulator<T> values[kColumns];
    Accumulator<T>* const value = values;
    vector_loop(0, width, [=](std::int64_t c) { value[c] = widened(rows[begin + c]); });
    for (std::int64_t t = 1; t < count; ++t) {
      const T* const row = rows + t * stride + begin;
      vector_loop(0, width, [=](std::int64_t c) { value[c] = combine(value[c], widened(row[c])); });
    }
    T* const result = to + begin;
    vector_loop(0, width, [=](std::int64_t c) { result[c] = T(finish(value[c])); });
  }
}

template <class T>
void mean_of_rows(const T* rows, std::int64_t count, std::int64_t stride, std::int64_t columns,
                  T* mean) {
  using A = Accumulator<T>;
  fold_rows(
      rows, count, stride, columns, mean, [](A sum, A x) { return sum + x; },
      [count](A sum) { return sum / static_cast<A>(count); });
}

}  // namespace

void BlockMeanKeys::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.k_TC.dim(1);
  for_each_block(
      context, a.batch, a.key_block, a.k_TC, a.kbar_MC,
      [=](auto* k, auto* kbar, Block block) { mean_of_rows(k, block.rows, C, C, kbar); });
}

void BlockMeanKeysBackward::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.dk_TC.dim(1);
  for_each_block(context, a.batch, a.key_block, a.dk_TC, a.dkbar_MC,
                 [=](auto* dk, auto* dkbar, Block block) {
                   using T = std::remove_pointer_t<decltype(dk)>;
                   const auto count = static_cast<Accumulator<T>>(block.rows);
                   vector_loop(0, C, [=](std::int64_t c) { dk[c] = T(widened(dkbar[c]) / count); });
                   for (std::int64_t t = 1; t < block.rows; ++t) std::copy_n(dk, C, dk + t * C);
                 });
}

void GroupQueries::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.q_TC.dim(1);
  for_each_block(context, a.batch, a.query_block, a.q_TC, a.qg_NC,
                 [=](auto* q, auto* qg, Block) { std::copy_n(q, C, qg); });
}

void GroupQueriesBackward::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.dq_TC.dim(1);
  for_each_block(context, a.batch, a.query_block, a.dq_TC, a.dqg_NC,
                 [=](auto* dq, auto* dqg, Block block) {
                   std::copy_n(dqg, C, dq);
                   std::fill_n(dq + C, (block.rows - 1) * C, std::remove_pointer_t<decltype(dq)>{});
                 });
}

void GroupMeanQueries::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.q_TC.dim(1);
  const std::int32_t* const document =
      a.document_begin_T.defined() ? a.document_begin_T.data<std::int32_t>() : nullptr;
  for_each_block(context, a.batch, a.query_block, a.q_TC, a.qg_NC,
                 [=](auto* q, auto* qg, Block block) {
                   std::int64_t rows = block.rows;
                   if (document != nullptr) {
                     const std::int32_t* const begins = document + block.first;
                     rows = std::find_if(begins, begins + rows,
                                         [=](std::int32_t begin) { return begin != *begins; }) -
                            begins;
                   }
                   mean_of_rows(q, rows, C, C, qg);
                 });
}

void BlockMaxMinMeanKeys::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.k_TGK.dim(1), K = C / a.kv_heads;
  for_each_block(context, a.batch, a.key_block, a.k_TGK, a.kp_MGP,
                 [=](auto* k, auto* kp, Block block) {
                   using A = Accumulator<std::remove_pointer_t<decltype(k)>>;
                   const auto same = [](A x) { return x; };
                   for (std::int64_t c = 0; c < C; c += K, k += K, kp += 3 * K) {
                     fold_rows(
                         k, block.rows, C, K, kp, [](A x, A y) { return y > x ? y : x; }, same);
                     fold_rows(
                         k, block.rows, C, K, kp + K, [](A x, A y) { return y < x ? y : x; }, same);
                     mean_of_rows(k, block.rows, C, K, kp + 2 * K);
                   }
                 });
}

namespace {

// The rows of one head, `stride` apart, kColumns at most; dkp is [3, K] of that head.
template <class T>
void extremes_gradient(const T* k, std::int64_t count, std::int64_t stride, std::int64_t width,
                       const T* dkp, std::int64_t K, T* dk) {
  using A = Accumulator<T>;
  A larges[kColumns], smalls[kColumns];
  std::int32_t large_rows[kColumns] = {}, small_rows[kColumns] = {};
  A *const large = larges, *const small = smalls;
  std::int32_t *const large_row = large_rows, *const small_row = small_rows;
  for (std::int64_t c = 0; c < width; ++c) large[c] = small[c] = widened(k[c]);
  for (std::int64_t t = 1; t < count; ++t) {
    const T* const row = k + t * stride;
    const auto index = static_cast<std::int32_t>(t);
    vector_loop(0, width, [=](std::int64_t c) {
      const A key = widened(row[c]);
      large_row[c] = key > large[c] ? index : large_row[c];
      large[c] = key > large[c] ? key : large[c];
      small_row[c] = key < small[c] ? index : small_row[c];
      small[c] = key < small[c] ? key : small[c];
    });
  }
  for (std::int64_t t = 0; t < count; ++t) {
    T* const row = dk + t * stride;
    vector_loop(0, width, [=](std::int64_t c) {
      A sum = widened(dkp[2 * K + c]) / static_cast<A>(count);
      sum += t == large_row[c] ? widened(dkp[c]) : A{0};
      sum += t == small_row[c] ? widened(dkp[K + c]) : A{0};
      row[c] = T(sum);
    });
  }
}

}  // namespace

void BlockMaxMinMeanKeysBackward::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.k_TGK.dim(1), K = C / a.kv_heads;
  for_each_block(context, a.batch, a.key_block, a.k_TGK, a.dkp_MGP,
                 [=](auto* k, auto* dkp, Block block) {
                   using T = std::remove_pointer_t<decltype(k)>;
                   T* const dk = a.dk_TGK.data<T>() + block.first * C;
                   for (std::int64_t g = 0; g < a.kv_heads; ++g)
                     for (std::int64_t c = 0; c < K; c += kColumns)
                       extremes_gradient(k + g * K + c, block.rows, C, std::min(kColumns, K - c),
                                         dkp + g * 3 * K + c, K, dk + g * K + c);
                 });
}

}  // namespace filigree
