#include "layers/sparsity/block_layout.hpp"

#include <algorithm>
#include <numeric>

#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"

namespace filigree {

BlockLayout::BlockLayout(std::int64_t head_count, std::int64_t block_count)
    : heads(head_count),
      blocks(block_count),
      cells(static_cast<std::size_t>(heads * blocks * blocks), 0) {}

bool BlockLayout::at(std::int64_t head, std::int64_t row, std::int64_t column) const {
  return cells[static_cast<std::size_t>((head * blocks + row) * blocks + column)] != 0;
}

void BlockLayout::set(std::int64_t head, std::int64_t row_begin, std::int64_t row_end,
                      std::int64_t column_begin, std::int64_t column_end) {
  const auto inside = [&](std::int64_t edge) { return std::clamp<std::int64_t>(edge, 0, blocks); };
  for (std::int64_t row = inside(row_begin); row < inside(row_end); ++row)
    for (std::int64_t column = inside(column_begin); column < inside(column_end); ++column)
      cells[static_cast<std::size_t>((head * blocks + row) * blocks + column)] = 1;
}

void BlockLayout::keep_causal() {
  for (std::int64_t i = 0; i < heads * blocks; ++i)
    for (std::int64_t column = i % blocks + 1; column < blocks; ++column)
      cells[static_cast<std::size_t>(i * blocks + column)] = 0;
}

namespace {

// Builds every head with `fill(layout, local head, global head)`, then cuts at the diagonal.
template <class Fill>
BlockLayout build(const LayoutShape& shape, const Fill& fill) {
  BlockLayout layout(shape.heads, shape.blocks);
  for (std::int64_t h = 0; h < shape.heads; ++h) fill(layout, h, shape.first_head + h);
  if (shape.causal) layout.keep_causal();
  return layout;
}

void set_columns(BlockLayout& layout, std::int64_t head, std::int64_t begin, std::int64_t end) {
  layout.set(head, 0, layout.blocks, begin, end);
}

void set_rows(BlockLayout& layout, std::int64_t head, std::int64_t begin, std::int64_t end) {
  layout.set(head, begin, end, 0, layout.blocks);
}

void set_window(BlockLayout& layout, std::int64_t head, std::int64_t begin, std::int64_t end) {
  layout.set(head, begin, end, begin, end);
}

void set_sliding(BlockLayout& layout, std::int64_t head, std::int64_t sliding) {
  const std::int64_t side = sliding / 2;
  for (std::int64_t row = 0; row < layout.blocks; ++row)
    layout.set(head, row, row + 1, row - side, row + side + 1);
}

// `count` distinct blocks in every row, of those that the row may read; the first of a
// pseudo-random order of them.
void set_random(BlockLayout& layout, std::int64_t head, std::int64_t global_head,
                std::int64_t count, std::uint64_t seed, bool causal) {
  const Philox random(seed, RandomPurpose::sampling, static_cast<std::uint64_t>(global_head));
  for (std::int64_t row = 0; row < layout.blocks; ++row) {
    std::vector<std::int64_t> columns(static_cast<std::size_t>(causal ? row + 1 : layout.blocks));
    std::iota(columns.begin(), columns.end(), std::int64_t{0});
    const std::int64_t chosen = std::min<std::int64_t>(count, std::ssize(columns));
    for (std::int64_t i = 0; i < chosen; ++i) {
      // The index depends on the row only: as a sequence grows, earlier rows keep their blocks.
      const double uniform = random.uniform(static_cast<std::uint64_t>(row << 32 | i));
      const auto other =
          i + static_cast<std::int64_t>(uniform * static_cast<double>(std::ssize(columns) - i));
      std::swap(columns[static_cast<std::size_t>(i)], columns[static_cast<std::size_t>(other)]);
      const std::int64_t column = columns[static_cast<std::size_t>(i)];
      layout.set(head, row, row + 1, column, column + 1);
    }
  }
}

void check(bool fits, const char* pattern, const char* reason) {
  if (!fits) throw UserError(str("sparsity pattern ", pattern, ": ", reason));
}

}  // namespace

BlockLayout fixed_layout(const FixedLayout& options, const LayoutShape& shape) {
  const std::int64_t local = options.local, global = options.global;
  check(local > 0 && global > 0 && options.patterns > 0 && global * options.patterns <= local,
        "deepspeed_fixed", "global blocks of all patterns must fit into a local window");
  check(!(options.horizontal && shape.causal), "deepspeed_fixed",
        "horizontal global blocks read later tokens and cannot be causal");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t head) {
    const std::int64_t offset = local - (1 + head % options.patterns) * global;
    for (std::int64_t begin = 0; begin < layout.blocks; begin += local) {
      set_window(layout, h, begin, begin + local);
      // A shorter last window uses its last blocks.
      const std::int64_t first =
          std::max<std::int64_t>(0, std::min(begin + offset, layout.blocks - global));
      set_columns(layout, h, first, first + global);
      if (options.horizontal) set_rows(layout, h, first, first + global);
    }
  });
}

BlockLayout variable_layout(const VariableLayout& options, const LayoutShape& shape) {
  check(!options.windows.empty() && std::all_of(options.windows.begin(), options.windows.end(),
                                                [](std::int64_t size) { return size > 0; }),
        "deepspeed_variable", "local windows must be given and positive");
  check(!(options.horizontal && shape.causal), "deepspeed_variable",
        "horizontal global blocks read later tokens and cannot be causal");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t head) {
    std::size_t window = 0;
    for (std::int64_t begin = 0; begin < layout.blocks;) {
      const std::int64_t size = options.windows[std::min(window++, options.windows.size() - 1)];
      set_window(layout, h, begin, begin + size);
      begin += size;
    }
    for (const std::int64_t block : options.global) {
      set_columns(layout, h, block, block + 1);
      if (options.horizontal) set_rows(layout, h, block, block + 1);
    }
    set_random(layout, h, head, options.random, options.seed, shape.causal);
  });
}

BlockLayout bigbird_layout(const BigBirdLayout& options, const LayoutShape& shape) {
  check(options.sliding > 0, "deepspeed_bigbird", "the sliding window must be positive");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t head) {
    set_random(layout, h, head, options.random, options.seed, shape.causal);
    set_sliding(layout, h, options.sliding);
    set_rows(layout, h, 0, options.global);
    set_columns(layout, h, 0, options.global);
  });
}

BlockLayout longformer_layout(const LongformerLayout& options, const LayoutShape& shape) {
  check(options.sliding > 0, "deepspeed_longformer", "the sliding window must be positive");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t) {
    set_sliding(layout, h, options.sliding);
    for (const std::int64_t block : options.global) {
      set_rows(layout, h, block, block + 1);
      set_columns(layout, h, block, block + 1);
    }
  });
}

BlockLayout sliding_layout(std::int64_t sliding, const LayoutShape& shape) {
  check(sliding > 0, "deepspeed_sliding", "the sliding window must be positive");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t) {
    set_sliding(layout, h, sliding);
  });
}

BlockLayout strided_layout(const StridedLayout& options, const LayoutShape& shape) {
  check(options.local > 0 && options.stride > 0, "s2_strided",
        "the local window and the stride must be positive");
  return build(shape, [&](BlockLayout& layout, std::int64_t h, std::int64_t head) {
    for (std::int64_t row = 0; row < layout.blocks; ++row)
      layout.set(h, row, row + 1, row - options.local + 1, row + 1);
    for (std::int64_t column = 0; column < layout.blocks; ++column)
      if ((column + head * options.step + options.offset) % options.stride == 0)
        set_columns(layout, h, column, column + 1);
  });
}

namespace {

// Counts [B, H, lines] and indices [B, H, lines, entries]: per (head, line) the entries for which
// `cell` is set, ascending, padded with -1.
template <class Cell>
void fill_lists(const Tensor& counts, const Tensor& indices, const Cell& cell) {
  const std::int64_t heads = counts.dim(1), lines = counts.dim(2), entries = indices.dim(3);
  auto* count = counts.data<std::int32_t>();
  auto* index = indices.data<std::int32_t>();
  std::fill_n(index, indices.numel(), -1);
  for (std::int64_t list = 0; list < counts.numel(); ++list) {
    count[list] = 0;
    for (std::int64_t entry = 0; entry < entries; ++entry)
      if (cell(list / lines % heads, list % lines, entry))
        index[list * entries + count[list]++] = static_cast<std::int32_t>(entry);
  }
}

}  // namespace

BlockLists lists_of(const BlockLayout& layout, std::int64_t batch, std::int64_t block,
                    std::int64_t first_row) {
  const std::int64_t heads = layout.heads, columns = layout.blocks, rows = columns - first_row;
  BlockLists lists;
  lists.counts_BHN = Tensor::empty({batch, heads, rows}, DType::i32);
  lists.indices_BHNJ = Tensor::empty({batch, heads, rows, columns}, DType::i32);
  lists.transposed_counts_BHM = Tensor::empty({batch, heads, columns}, DType::i32);
  lists.transposed_indices_BHMN = Tensor::empty({batch, heads, columns, rows}, DType::i32);
  lists.query_block = lists.key_block = block;
  fill_lists(lists.counts_BHN, lists.indices_BHNJ, [&](auto head, auto row, auto column) {
    return layout.at(head, first_row + row, column);
  });
  fill_lists(
      lists.transposed_counts_BHM, lists.transposed_indices_BHMN,
      [&](auto head, auto column, auto row) { return layout.at(head, first_row + row, column); });
  return lists;
}

}  // namespace filigree
