#include "runtime/training/memory_report.hpp"

#include <iomanip>
#include <sstream>

#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

std::string row(const std::string& name, std::int64_t bytes) {
  std::ostringstream out;
  out << "\n  " << std::left << std::setw(14) << name << std::right << std::setw(12)
      << readable_bytes(static_cast<double>(bytes));
  return out.str();
}

}  // namespace

std::string planned_memory_table(const ParameterStore& store, const AdamWOptimizer& optimizer,
                                 int savers) {
  const bool has_copy = !store.compute().shares_storage_with(store.master());
  const std::int64_t parameters = store.master().bytes() + (has_copy ? store.compute().bytes() : 0);
  const std::int64_t gradients = store.gradient().bytes();
  const std::int64_t moments = optimizer.first_moment().bytes() + optimizer.second_moment().bytes();
  const std::int64_t copy = savers > 0 ? (store.master().bytes() + moments) / savers : 0;
  return "memory of a rank before the first step" + row("parameters", parameters) +
         row("gradients", gradients) + row("optimizer", moments) +
         (copy > 0 ? row("saving", copy) : std::string()) +
         row("total", parameters + gradients + moments + copy);
}

const CachingAllocator& counting_allocator(const ExecutionContext& context) {
  const auto* allocator = dynamic_cast<const CachingAllocator*>(context.allocator.get());
  FILIGREE_CHECK(allocator != nullptr, "the memory of a run comes from a caching allocator");
  return *allocator;
}

std::string peak_memory_table(const CachingAllocator& allocator) {
  std::string text = str("most ", allocator.device().kind == DeviceKind::cuda ? "GPU " : "",
                         "memory of a rank in use at once, after the first step");
  for (const MemoryRow& use : allocator.table())
    if (use.peak_bytes > 0) text += row(use.name, use.peak_bytes);
  return text;
}

}  // namespace filigree
