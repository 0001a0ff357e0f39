// How many pairs attention reads, counted where its lists are: the work of a step whose choice the
// host never sees.
#pragma once

#include "kernels/attention/attention.hpp"

namespace filigree {

// pairs[0] = (query, key) pairs that the pattern reads, pairs[1] = those that the shape and the
// documents allow, over all sequences and heads. pairs: i64 [2].
struct CountPairs {
  static constexpr std::string_view name = "count_pairs";
  struct Arguments {
    AttentionShape shape;
    AttentionPattern pattern;
    Tensor pairs;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
