// Which of attention's CUDA implementations takes what.
#include "tests/kernels/attention_patterns.hpp"

namespace filigree {
namespace {

template <class Op>
std::string reason_of(const typename Op::Arguments& arguments) {
  for (const auto& candidate : kernel_table().implementations<Op>())
    if (candidate.name == "hopper")
      return candidate.reject(arguments, ExecutionContext{}).value_or("accepted");
  return str("the table of kernels has no ", Op::name, " for Hopper");
}

std::string reason(const PatternCase& c, DType dtype = DType::bf16) {
  const Problem x(c.shape, dtype, dtype, 11, pattern_of(c));
  const std::string forward =
      reason_of<AttentionForward>({c.shape, x.q, x.k, x.v, x.o, x.lse, x.pattern});
  EXPECT_EQ(reason_of<AttentionBackward>(
                {c.shape, x.q, x.k, x.v, x.o, x.lse, x.d_o, x.dq, x.dk, x.dv, x.pattern, x.dbias}),
            forward);
  return forward;
}

TEST(AttentionDispatch, HopperSaysWhatItCannot) {
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const AttentionShape shape = shape_of(1, 100, 100, 2, 1, 64);
  EXPECT_EQ(reason({shape}), "accepted");
  EXPECT_EQ(reason({shape, 64, 64, 0.5, true}), "accepted");
  has(reason({shape}, DType::f32), "bf16");
  has(reason({shape_of(1, 100, 100, 2, 1, 32)}), "heads of more than 32");
  has(reason({shape_of(1, 100, 100, 2, 1, 68)}), "steps of 8");
  has(reason({shape_of(1, 100, 100, 2, 1, 136)}), "heads of up to 128");
  has(reason({shape_of(1, 100, 0, 2, 1, 64)}), "empty sequence");
  has(reason({shape_of(0, 100, 100, 2, 1, 64)}), "empty batch");
  has(reason({shape_of(1, 3, 100, 2, 1, 64, 97)}), "more than 32 queries");
  has(reason({shape, 16, 64, 0.5, true}), "more than 32 queries");
  has(reason({shape, 64, 20, 0.5, true}), "blocks of keys in steps of 8");
}

TEST(AttentionDispatch, HopperComesBeforeTheOthersWhereItCan) {
  ExecutionContext context = testing::accelerator()(0);
  const AttentionShape shape = shape_of(1, 100, 100, 2, 1, 64);
  const auto chosen = [&](DType dtype) {
    const Problem x(shape, dtype, dtype);
    const auto forward =
        select_implementation<AttentionForward>({shape, x.q, x.k, x.v, x.o, x.lse}, context).name;
    EXPECT_EQ(select_implementation<AttentionBackward>(
                  {shape, x.q, x.k, x.v, x.o, x.lse, x.d_o, x.dq, x.dk, x.dv}, context)
                  .name,
              forward);
    return forward;
  };
  EXPECT_EQ(chosen(DType::bf16), "hopper");
  EXPECT_EQ(chosen(DType::f32), "cuda");
}

}  // namespace
}  // namespace filigree
