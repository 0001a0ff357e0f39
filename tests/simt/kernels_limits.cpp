// What CUDA cannot launch is refused in one line, before anything runs.
#include "tests/kernels/attention_problem.hpp"

namespace filigree {
namespace {

TEST(LaunchLimits, MoreSequencesThanAGridHasAreRefused) {
  ExecutionContext context = testing::accelerator()(0);
  const AttentionShape shape = shape_of(65536, 1, 1, 1, 1, 8);
  const Tensor x = context.zeros({shape.batch, 8}, DType::f32);
  const Tensor lse = context.zeros({shape.batch, 1, 1}, DType::f32);
  try {
    dispatch<AttentionForward>({shape, x, x, x, context.clone(x), lse, {}}, context);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    const std::string line = error.what();
    EXPECT_NE(line.find(" x 1 x 65536 blocks"), std::string::npos) << line;
    EXPECT_NE(line.find("use a smaller micro-batch"), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
  context.stream->synchronize();  // the stream is as it was
}

}  // namespace
}  // namespace filigree
