#include "kernels/attention/pair_count.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work CountPairs::work(const Arguments& a) {
  const BlockLists& lists = a.pattern.lists;
  return {0, 0, lists.defined() ? lists.counts_BHN.bytes() + lists.indices_BHNJ.bytes() : 0};
}

std::optional<std::string> CountPairs::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck().dtype("pairs", a.pairs, DType::i64).numel("pairs", a.pairs, 2).problem();
}

void register_pair_count(KernelTable& table) {
  table.add<CountPairs>(
      {"reference", DeviceKind::cpu, 0, &CountPairs::reject, &CountPairs::reference});
}

}  // namespace filigree
