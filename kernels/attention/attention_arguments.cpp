// What the implementations may rely on: shapes, dtypes, and the contents of lists and documents in
// host memory, since an index out of range would read foreign memory. Reading them costs little
// beside the attention that they describe. Those of an accelerator come from its own kernels.
#include "kernels/attention/attention_implementations.hpp"

namespace filigree {

namespace {

void check_shape(const AttentionShape& s) {
  FILIGREE_CHECK(s.batch >= 0 && s.query_length >= 0 && s.key_length >= 0, "negative size");
  FILIGREE_CHECK(s.kv_heads > 0 && s.query_heads > 0 && s.query_heads % s.kv_heads == 0,
                 s.query_heads, " query heads over ", s.kv_heads, " key/value heads");
  FILIGREE_CHECK(s.head_dim > 0, "head_dim is ", s.head_dim);
}

void check_tensor(const Tensor& tensor, const Shape& shape, DType dtype, const char* name) {
  FILIGREE_CHECK(tensor.defined(), name, " is undefined");
  FILIGREE_CHECK_EQ(tensor.shape(), shape, "shape of ", name);
  FILIGREE_CHECK(tensor.dtype() == dtype, name, " is ", name_of(tensor.dtype()), ", expected ",
                 name_of(dtype));
}

struct Shapes {
  Shape query, key, lse;
};

Shapes shapes_of(const AttentionShape& s) {
  return {Shape{s.batch * s.query_length, s.query_heads * s.head_dim},
          Shape{s.batch * s.key_length, s.kv_heads * s.head_dim},
          Shape{s.batch, s.query_heads, s.query_length}};
}

// Every row of `indices` starts with as many ascending numbers below `limit` as its count says.
// Returns the sum of the counts.
std::int64_t check_rows(const Tensor& counts, const Tensor& indices, std::int64_t limit,
                        const char* name) {
  const std::int64_t capacity = indices.dim(-1);
  std::int64_t total = 0;
  for (std::int64_t row = 0; row < counts.numel(); ++row) {
    const std::int64_t count = counts.data<std::int32_t>()[row];
    FILIGREE_CHECK(count >= 0 && count <= capacity, name, " row ", row, ": count ", count,
                   " of capacity ", capacity);
    std::int64_t previous = -1;
    for (std::int64_t slot = 0; slot < count; ++slot) {
      const std::int64_t index = indices.data<std::int32_t>()[row * capacity + slot];
      FILIGREE_CHECK(index > previous && index < limit, name, " row ", row, " slot ", slot, ": ",
                     index, " after ", previous, ", expected ascending numbers below ", limit);
      previous = index;
    }
    total += count;
  }
  return total;
}

void check_lists(const AttentionShape& s, const AttentionPattern& pattern) {
  const BlockLists& lists = pattern.lists;
  FILIGREE_CHECK(lists.query_block > 0 && lists.key_block > 0, "blocks of ", lists.query_block,
                 " queries and ", lists.key_block, " keys");
  FILIGREE_CHECK(s.query_offset >= 0, "block lists with query_offset ", s.query_offset);
  const std::int64_t groups = query_groups(s, lists.query_block);
  const std::int64_t blocks = key_blocks(s, lists.key_block);
  FILIGREE_CHECK(lists.indices_BHNJ.defined() && lists.indices_BHNJ.rank() == 4,
                 "indices_BHNJ is not of rank 4");
  const std::int64_t slots = lists.indices_BHNJ.dim(3);
  const std::int64_t b = s.batch, h = s.query_heads;
  check_tensor(lists.counts_BHN, {b, h, groups}, DType::i32, "counts_BHN");
  check_tensor(lists.indices_BHNJ, {b, h, groups, slots}, DType::i32, "indices_BHNJ");
  check_tensor(lists.transposed_counts_BHM, {b, h, blocks}, DType::i32, "transposed_counts_BHM");
  check_tensor(lists.transposed_indices_BHMN, {b, h, blocks, groups}, DType::i32,
               "transposed_indices_BHMN");
  if (lists.counts_BHN.device().kind != DeviceKind::cpu) return;
  const std::int64_t listed = check_rows(lists.counts_BHN, lists.indices_BHNJ, blocks, "lists");
  FILIGREE_CHECK_EQ(check_rows(lists.transposed_counts_BHM, lists.transposed_indices_BHMN, groups,
                               "transposed lists"),
                    listed, "entries of the transposed lists");
}

// Documents follow each other without gaps: every position is either inside the one of the position
// before or the first of its own.
void check_documents(const AttentionShape& s, const AttentionPattern& pattern) {
  const Shape shape{s.batch * s.key_length};
  check_tensor(pattern.document_begin_T, shape, DType::i32, "document_begin_T");
  check_tensor(pattern.document_end_T, shape, DType::i32, "document_end_T");
  FILIGREE_CHECK(s.query_offset >= 0 && s.query_offset + s.query_length <= s.key_length,
                 "documents with queries [", s.query_offset, ", ", s.query_offset + s.query_length,
                 ") of ", s.key_length, " positions");
  if (pattern.document_begin_T.device().kind != DeviceKind::cpu) return;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const std::int32_t* const begin =
        pattern.document_begin_T.data<std::int32_t>() + b * s.key_length;
    const std::int32_t* const end = pattern.document_end_T.data<std::int32_t>() + b * s.key_length;
    for (std::int64_t p = 0; p < s.key_length; ++p) {
      const bool starts =
          begin[p] == p && end[p] > p && end[p] <= s.key_length && (p == 0 || end[p - 1] == p);
      const bool continues =
          p > 0 && begin[p] == begin[p - 1] && end[p] == end[p - 1] && end[p] > p;
      FILIGREE_CHECK(starts || continues, "sequence ", b, " position ", p, ": document [", begin[p],
                     ", ", end[p], ") does not follow the one before");
    }
  }
}

void check_pattern(const AttentionShape& s, const AttentionPattern& pattern, DType accumulation) {
  FILIGREE_CHECK(pattern.window >= 0 && pattern.sinks >= 0, "window ", pattern.window, ", sinks ",
                 pattern.sinks);
  if (pattern.lists.defined()) check_lists(s, pattern);
  if (pattern.document_begin_T.defined() || pattern.document_end_T.defined())
    check_documents(s, pattern);
  if (!pattern.bias_BHNJ.defined()) return;
  FILIGREE_CHECK(pattern.lists.defined(), "bias_BHNJ without block lists");
  check_tensor(pattern.bias_BHNJ, pattern.lists.indices_BHNJ.shape(), accumulation, "bias_BHNJ");
}

}  // namespace

void check_arguments(const AttentionForward::Arguments& a) {
  check_shape(a.shape);
  const Shapes shapes = shapes_of(a.shape);
  const DType dtype = a.q_THK.dtype();
  check_tensor(a.q_THK, shapes.query, dtype, "q_THK");
  check_tensor(a.k_TGK, shapes.key, dtype, "k_TGK");
  check_tensor(a.v_TGK, shapes.key, dtype, "v_TGK");
  check_tensor(a.o_THK, shapes.query, dtype, "o_THK");
  check_tensor(a.lse_BHS, shapes.lse, accumulation_dtype(dtype), "lse_BHS");
  check_pattern(a.shape, a.pattern, accumulation_dtype(dtype));
}

void check_arguments(const AttentionBackward::Arguments& a) {
  check_arguments(AttentionForward::Arguments{a.shape, a.q_THK, a.k_TGK, a.v_TGK, a.o_THK,
                                              a.lse_BHS, a.pattern});
  const Shapes shapes = shapes_of(a.shape);
  const DType dtype = a.q_THK.dtype();
  check_tensor(a.do_THK, shapes.query, dtype, "do_THK");
  check_tensor(a.dq_THK, shapes.query, dtype, "dq_THK");
  check_tensor(a.dk_TGK, shapes.key, dtype, "dk_TGK");
  check_tensor(a.dv_TGK, shapes.key, dtype, "dv_TGK");
  FILIGREE_CHECK_EQ(a.dbias_BHNJ.defined(), a.pattern.bias_BHNJ.defined(), "dbias_BHNJ and bias");
  if (a.dbias_BHNJ.defined())
    check_tensor(a.dbias_BHNJ, a.pattern.bias_BHNJ.shape(), accumulation_dtype(dtype),
                 "dbias_BHNJ");
}

}  // namespace filigree
