// How an op finds its implementation: typed op tags, explicit lists, capability stated in words.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/error.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/core/trace.hpp"

namespace filigree {

// One way to compute Op. reject says why it cannot take these arguments, or nothing when it can.
template <class Op>
struct Implementation {
  std::string_view name;  // "reference", "cpu", "onednn"
  DeviceKind device = DeviceKind::cpu;
  int priority = 0;  // the highest that accepts wins; reference is 0
  std::optional<std::string> (*reject)(const typename Op::Arguments&, const ExecutionContext&);
  void (*run)(const typename Op::Arguments&, ExecutionContext&);
};

// A reject function for implementations that take everything.
template <class Op>
std::optional<std::string> accepts_any(const typename Op::Arguments&, const ExecutionContext&) {
  return std::nullopt;
}

// The implementations of every op. Filled once by the functions listed in registry.cpp, then
// constant.
class KernelTable {
 public:
  template <class Op>
  void add(const Implementation<Op>& implementation) {
    list<Op>().push_back(implementation);
  }
  template <class Op>
  const std::vector<Implementation<Op>>& implementations() const {
    const auto found = lists_.find(Op::name);
    FILIGREE_CHECK(found != lists_.end(), "no implementation of ", Op::name, " is registered");
    return static_cast<const List<Op>&>(*found->second).items;
  }
  // For listings: op name -> implementation names, in registration order.
  std::map<std::string, std::vector<std::string>> names() const;

 private:
  struct AnyList {
    virtual ~AnyList() = default;
    virtual std::vector<std::string> names() const = 0;
  };
  template <class Op>
  struct List final : AnyList {
    std::vector<Implementation<Op>> items;
    std::vector<std::string> names() const override {
      std::vector<std::string> result;
      for (const auto& item : items) result.emplace_back(item.name);
      return result;
    }
  };
  template <class Op>
  std::vector<Implementation<Op>>& list() {
    auto& slot = lists_[Op::name];
    if (!slot) slot = std::make_unique<List<Op>>();
    return static_cast<List<Op>&>(*slot).items;
  }
  std::map<std::string_view, std::unique_ptr<AnyList>> lists_;
};

const KernelTable& kernel_table();  // kernels/registry.cpp

// The implementation that dispatch would run. Throws InternalError with every reason when none
// accepts.
template <class Op>
const Implementation<Op>& select_implementation(const typename Op::Arguments& arguments,
                                                const ExecutionContext& context) {
  const auto forced_name = [&]() -> std::string_view {
    for (const std::string_view key : {std::string_view(Op::name), std::string_view("*")})
      if (const auto found = context.forced_kernels.find(key);
          found != context.forced_kernels.end())
        return found->second;
    return {};
  }();
  const Implementation<Op>* best = nullptr;
  std::string reasons;
  for (const Implementation<Op>& candidate : kernel_table().implementations<Op>()) {
    std::optional<std::string> reason;
    if (candidate.device != context.device.kind)
      reason = "is for another device";
    else if (!forced_name.empty() && candidate.name != forced_name)
      reason = str("'", forced_name, "' is forced");
    else
      reason = candidate.reject(arguments, context);
    if (reason)
      reasons += str("\n  ", candidate.name, ": ", *reason);
    else if (best == nullptr || candidate.priority > best->priority)
      best = &candidate;
  }
  FILIGREE_CHECK(best != nullptr, Op::name, ": no implementation accepts these arguments", reasons);
  return *best;
}

template <class Op>
constexpr WorkPart part_of() {
  if constexpr (requires { Op::part; })
    return Op::part;
  else
    return WorkPart::other;
}

// Runs the best implementation and counts its work and time. Every Op has
//   static Work work(const Arguments&);
// and, where that depends on what only an accelerator knows, which it then leaves out,
//   static void count_later(const Arguments&, ExecutionContext&);   // through context.count_later
template <class Op>
void dispatch(const typename Op::Arguments& arguments, ExecutionContext& context) {
  const Implementation<Op>& chosen = select_implementation<Op>(arguments, context);
  ErrorContext frame{std::string(Op::name)};
  const TraceRange range(Op::name.data());  // a literal, ended by 0
  const auto start = std::chrono::steady_clock::now();
  chosen.run(arguments, context);
  PartUsage& usage = context.work[part_of<Op>()];
  usage.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  usage.work += Op::work(arguments);
  if constexpr (requires { Op::count_later(arguments, context); })
    Op::count_later(arguments, context);
}

}  // namespace filigree
