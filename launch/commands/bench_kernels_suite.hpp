// How `filigree bench kernels` measures a case, and where its cases are.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dispatch.hpp"
#include "launch/commands/bench_kernels.hpp"
#include "launch/commands/bench_timing.hpp"

namespace filigree {

// Values in [-1, 1) from a multiplicative hash of the index: a benchmark needs plain numbers
// quickly, not good ones.
inline Tensor some_values(const Shape& shape, DType dtype) {
  const Tensor values = Tensor::empty(shape, DType::f32);
  float* const data = values.data<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i)
    data[i] = float((std::uint32_t(i) * 2654435761u) >> 8) / float(1 << 23) - 1.0f;
  return dtype == DType::f32 ? values : values.to(dtype);
}

inline Tensor some_ids(std::int64_t count, std::int64_t limit) {
  const Tensor ids = Tensor::empty({count}, DType::i32);
  for (std::int64_t i = 0; i < count; ++i)
    ids.data<std::int32_t>()[i] = std::int32_t((std::uint32_t(i) * 2654435761u >> 4) % limit);
  return ids;
}

// Largest difference over largest value, of the worst of the outputs. NaN where one is a number and
// the other is not.
double relative_error(const std::vector<Tensor>& got, const std::vector<Tensor>& expected);

// Runs the cases that it is given, or only notes their ops.
class KernelSuite {
 public:
  KernelSuite() = default;  // only notes
  KernelSuite(const MachinePeaks& peaks, int threads, std::string filter)
      : peaks_(&peaks), filter_(std::move(filter)) {
    context_.num_threads = threads;
  }

  // build makes the same arguments every time; outputs names the tensors that are compared.
  template <class Op>
  void add(const std::string& shape, DType dtype, bool memory_bound,
           const std::function<typename Op::Arguments()>& build,
           const std::function<std::vector<Tensor>(const typename Op::Arguments&)>& outputs) {
    ops.emplace(Op::name);
    if (peaks_ == nullptr) return;
    const std::string title = str(Op::name, ' ', shape, ' ', name_of(dtype));
    if (title.find(filter_) == std::string::npos) return;
    const typename Op::Arguments arguments = build();
    const std::string_view picked = select_implementation<Op>(arguments, context_).name;
    std::vector<Tensor> expected;
    for (const Implementation<Op>& candidate : kernel_table().implementations<Op>()) {
      if (candidate.device != context_.device.kind) continue;
      KernelMeasurement row;
      row.op = Op::name, row.shape = shape, row.implementation = candidate.name;
      row.dtype = dtype, row.memory_bound = memory_bound;
      row.picked = candidate.name == picked;
      if (const auto reason = candidate.reject(arguments, context_)) {
        row.rejected = *reason;
      } else {
        const typename Op::Arguments fresh = build();
        const double first = seconds_of([&] { candidate.run(fresh, context_); });
        const bool is_reference = candidate.name == "reference";
        if (is_reference)
          expected = outputs(fresh);
        else if (!expected.empty())
          row.error = relative_error(outputs(fresh), expected);
        // The reference is timed by its one call: it is slow, and only the scale of its time is of
        // interest.
        rate(row, Op::work(arguments),
             is_reference ? first : fastest_call(0.08, [&] { candidate.run(fresh, context_); }));
      }
      rows.push_back(std::move(row));
    }
  }

  std::vector<KernelMeasurement> rows;
  std::set<std::string> ops;  // of every case

 private:
  void rate(KernelMeasurement& row, const Work& work, double seconds) const;

  const MachinePeaks* peaks_ = nullptr;
  std::string filter_;
  ExecutionContext context_;
};

void add_gate_cases(KernelSuite& suite, DType dtype);

}  // namespace filigree
