#include "kernels/attention/pair_count.hpp"

namespace filigree {

void CountPairs::reference(const Arguments& a, ExecutionContext&) {
  a.pairs.data<std::int64_t>()[0] = visited_pairs(a.shape, a.pattern);
  a.pairs.data<std::int64_t>()[1] = allowed_pairs(a.shape, a.pattern);
}

}  // namespace filigree
