// Chooses the form of the fast attention by what would fill the vectors.
#include "kernels/attention/attention_cpu.hpp"

#include "kernels/attention/attention_implementations.hpp"

namespace filigree {

namespace {

// Below this many queries lanes would stay empty whatever the pattern.
constexpr std::int64_t kFewQueries = 4;
// Groups below this size would leave most lanes of a tile of queries empty.
constexpr std::int64_t kSmallGroup = 16;

bool has_small_groups(const AttentionPattern& pattern) {
  return pattern.lists.defined() && pattern.lists.query_block < kSmallGroup;
}

void forward(const AttentionForward::Arguments& arguments, const CpuKernels& kernels,
             ExecutionContext& context) {
  check_arguments(arguments);
  if (arguments.shape.query_length <= kFewQueries)
    attention_forward_rows(arguments, kernels, context);
  else if (has_small_groups(arguments.pattern))
    attention_forward_gathered(arguments, kernels, context);
  else
    attention_forward_tiles(arguments, kernels, context);
}

void backward(const AttentionBackward::Arguments& arguments, const CpuKernels& kernels,
              ExecutionContext& context) {
  check_arguments(arguments);
  if (has_small_groups(arguments.pattern))
    attention_backward_gathered(arguments, kernels, context);
  else
    attention_backward_tiles(arguments, kernels, context);
}

}  // namespace

void attention_forward_cpu(const AttentionForward::Arguments& arguments,
                           ExecutionContext& context) {
  forward(arguments, cpu_kernels(), context);
}

void attention_forward_portable(const AttentionForward::Arguments& arguments,
                                ExecutionContext& context) {
  forward(arguments, *available_cpu_kernels()[0], context);
}

void attention_backward_cpu(const AttentionBackward::Arguments& arguments,
                            ExecutionContext& context) {
  backward(arguments, cpu_kernels(), context);
}

void attention_backward_portable(const AttentionBackward::Arguments& arguments,
                                 ExecutionContext& context) {
  backward(arguments, *available_cpu_kernels()[0], context);
}

}  // namespace filigree
