#include <algorithm>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/gate/pooling.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kColumns = 64;  // sums that stay in registers or the first-level cache

// The rows [first, first + rows) of block `block`, counted over all sequences.
struct Block {
  std::int64_t first, rows;
};
struct Blocks {
  std::int64_t length, size, per_sequence, count;
  Blocks(std::int64_t batch, const Tensor& tokens, std::int64_t size)
      : length(batch == 0 ? 0 : tokens.dim(0) / batch),
        size(size),
        per_sequence((length + size - 1) / size),
        count(batch * per_sequence) {}
  Block at(std::int64_t block) const {
    const std::int64_t begin = block % per_sequence * size;
    return {block / per_sequence * length + begin, std::min(size, length - begin)};
  }
};

template <class T>
void mean_of_rows(const T* rows, std::int64_t count, std::int64_t C, T* mean) {
  using A = Accumulator<T>;
  for (std::int64_t begin = 0; begin < C; begin += kColumns) {
    const std::int64_t columns = std::min(kColumns, C - begin);
    A sums[kColumns] = {};
    A* const sum = sums;
    for (std::int64_t t = 0; t < count; ++t) {
      const T* const row = rows + t * C + begin;
      vector_loop(0, columns, [=](std::int64_t c) { sum[c] += widened(row[c]); });
    }
    T* const to = mean + begin;
    vector_loop(0, columns, [=](std::int64_t c) { to[c] = T(sum[c] / static_cast<A>(count)); });
  }
}

// body(block index, Block) for every block, in parallel.
template <class Body>
void for_each_block(const ExecutionContext& context, const Blocks& blocks, std::int64_t columns,
                    const Body& body) {
  const std::int64_t elements = blocks.size * columns;
  for_each_chunk(context, blocks.count, rows_per_chunk(elements), elements,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t block = begin; block < end; ++block)
                     body(block, blocks.at(block));
                 });
}

}  // namespace

void BlockMeanKeys::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.k_TC.dim(1);
  visit_floating(a.k_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* k = a.k_TC.data<T>();
    T* kbar = a.kbar_MC.data<T>();
    for_each_block(context, {a.batch, a.k_TC, a.key_block}, C, [=](std::int64_t m, Block block) {
      mean_of_rows(k + block.first * C, block.rows, C, kbar + m * C);
    });
  });
}

void BlockMeanKeysBackward::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.dk_TC.dim(1);
  visit_floating(a.dk_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* dkbar = a.dkbar_MC.data<T>();
    T* dk = a.dk_TC.data<T>();
    for_each_block(context, {a.batch, a.dk_TC, a.key_block}, C, [=](std::int64_t m, Block block) {
      const T* const from = dkbar + m * C;
      T* const to = dk + block.first * C;
      const auto count = static_cast<Accumulator<T>>(block.rows);
      vector_loop(0, C, [=](std::int64_t c) { to[c] = T(widened(from[c]) / count); });
      for (std::int64_t t = 1; t < block.rows; ++t) std::copy_n(to, C, to + t * C);
    });
  });
}

void GroupQueries::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.q_TC.dim(1);
  visit_floating(a.q_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* q = a.q_TC.data<T>();
    T* qg = a.qg_NC.data<T>();
    for_each_block(context, {a.batch, a.q_TC, a.query_block}, C, [=](std::int64_t n, Block block) {
      std::copy_n(q + block.first * C, C, qg + n * C);
    });
  });
}

void GroupQueriesBackward::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t C = a.dq_TC.dim(1);
  visit_floating(a.dq_TC.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* dqg = a.dqg_NC.data<T>();
    T* dq = a.dq_TC.data<T>();
    for_each_block(context, {a.batch, a.dq_TC, a.query_block}, C, [=](std::int64_t n, Block block) {
      std::copy_n(dqg + n * C, C, dq + block.first * C);
      std::fill_n(dq + (block.first + 1) * C, (block.rows - 1) * C, T{});
    });
  });
}

}  // namespace filigree
