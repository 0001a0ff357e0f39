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

// Makes the tensors of a case where it is measured.
class CaseTensors {
 public:
  explicit CaseTensors(const ExecutionContext& context) : context_(context) {}
  Tensor values(const Shape& shape, DType dtype) const { return given(some_values(shape, dtype)); }
  Tensor ids(std::int64_t count, std::int64_t limit) const { return given(some_ids(count, limit)); }
  Tensor zeros(const Shape& shape, DType dtype) const { return context_.zeros(shape, dtype); }
  Tensor given(const Tensor& host) const { return context_.upload(host); }

 private:
  const ExecutionContext& context_;
};

// Largest difference over largest value, of the worst of the outputs. NaN where one is a number and
// the other is not.
double relative_error(const std::vector<Tensor>& got, const std::vector<Tensor>& expected);

// Runs the cases that it is given, or only notes their ops.
class KernelSuite {
 public:
  KernelSuite() = default;  // only notes
  KernelSuite(const KernelPeaks& peaks, const ExecutionContext& context, std::string filter)
      : peaks_(&peaks), filter_(std::move(filter)), context_(context) {}

  // How many times larger than on a CPU a case must be to leave the caches and fill the device.
  std::int64_t scale() const { return context_.device.kind == DeviceKind::cpu ? 1 : 8; }

  // build makes the same arguments every time; outputs names the tensors that are compared.
  template <class Op>
  void add(const std::string& shape, DType dtype, bool memory_bound,
           const std::function<typename Op::Arguments(const CaseTensors&)>& build,
           const std::function<std::vector<Tensor>(const typename Op::Arguments&)>& outputs) {
    ops.emplace(Op::name);
    if (peaks_ == nullptr) return;
    const std::string title = str(Op::name, ' ', shape, ' ', name_of(dtype));
    if (title.find(filter_) == std::string::npos) return;
    const CaseTensors tensors(context_);
    const typename Op::Arguments arguments = build(tensors);
    const std::string picked = picked_name<Op>(arguments);
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
        const typename Op::Arguments fresh = build(tensors);
        const double first = seconds_of([&] { candidate.run(fresh, context_); });
        const bool is_reference = candidate.name == "reference";
        // The reference is of the host; tests/kernels holds implementations elsewhere to it.
        if (is_reference)
          expected = outputs(fresh);
        else if (!expected.empty())
          row.error = relative_error(outputs(fresh), expected);
        // The reference is timed by its one call: it is slow, and only the scale of its time is of
        // interest.
        rate(row, Op::work(arguments), is_reference ? first : fastest_call(0.08, context_, [&] {
               candidate.run(fresh, context_);
             }));
      }
      rows.push_back(std::move(row));
    }
    context_.reset_work();
  }

  std::vector<KernelMeasurement> rows;
  std::set<std::string> ops;  // of every case

 private:
  // "" where no implementation takes the arguments: a dtype that the device does not compute in.
  template <class Op>
  std::string picked_name(const typename Op::Arguments& arguments) const {
    const Implementation<Op>* picked = nullptr;
    for (const Implementation<Op>& candidate : kernel_table().implementations<Op>())
      if (candidate.device == context_.device.kind && !candidate.reject(arguments, context_) &&
          (picked == nullptr || candidate.priority > picked->priority))
        picked = &candidate;
    return picked == nullptr ? "" : std::string(picked->name);
  }
  void rate(KernelMeasurement& row, const Work& work, double seconds) const;

  const KernelPeaks* peaks_ = nullptr;
  std::string filter_;
  ExecutionContext context_;
};

void add_gate_cases(KernelSuite& suite, DType dtype);

}  // namespace filigree
