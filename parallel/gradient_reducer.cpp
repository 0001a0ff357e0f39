#include "parallel/gradient_reducer.hpp"

#include <algorithm>

namespace filigree {
namespace {

bool partial_on_same_axes(const Variable& a, const Variable& b) {
  const Placements left = *a.gradient_placements(), right = *b.gradient_placements();
  return std::all_of(kAxes.begin(), kAxes.end(), [&](Axis axis) {
    return left[axis].is_partial() == right[axis].is_partial();
  });
}

Placements after_sums(Placements placements) {
  for (const Axis axis : kAxes)
    if (placements[axis].is_partial()) placements = placements.with(axis, Placement::invariant());
  return placements;
}

}  // namespace

GradientReducer::GradientReducer(const Mesh& mesh, std::vector<Variable> parameters, Tensor flat,
                                 Options options)
    : mesh_(mesh), parameters_(std::move(parameters)), flat_(std::move(flat)) {
  FILIGREE_CHECK(options.bucket_bytes > 0, "bucket of ", options.bucket_bytes, " bytes");
  std::int64_t bytes = options.bucket_bytes;  // full: the first parameter opens a bucket
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (bytes >= options.bucket_bytes) {
      buckets_.push_back({i, i});
      bytes = 0;
    }
    const bool added = bucket_of_.emplace(parameters_[i].id(), buckets_.size() - 1).second;
    FILIGREE_CHECK(added, parameters_[i].name(), " is listed twice");
    buckets_.back().last = i + 1;
    bytes += parameters_[i].shape().numel() * size_of(flat_.dtype());
  }
  unstarted_ = buckets_.size();
}

void GradientReducer::attach(Tape& tape) {
  FILIGREE_CHECK(tape_ == nullptr, "the reducer is attached to a tape already");
  tape_ = &tape;
  tape.on_gradient_ready([this](const Variable& parameter) { mark_ready(parameter); });
}

void GradientReducer::mark_ready(const Variable& parameter) {
  const auto found = bucket_of_.find(parameter.id());
  FILIGREE_CHECK(found != bucket_of_.end(), parameter.name(), " has a gradient but is not reduced");
  // A use that no gradient flowed through leaves nothing to sum; finish() says so if it stays that
  // way.
  if (!parameter.gradient().defined()) return;
  ++buckets_[found->second].ready;
  start_ready_buckets();
}

void GradientReducer::start_ready_buckets() {
  while (unstarted_ > 0) {
    Bucket& bucket = buckets_[unstarted_ - 1];
    if (bucket.ready < bucket.last - bucket.first) return;
    start(bucket);
    --unstarted_;
  }
}

std::int64_t GradientReducer::begin_of(std::size_t parameter) const {
  const Tensor gradient = parameters_[parameter].gradient();
  FILIGREE_CHECK(gradient.shares_storage_with(flat_) && gradient.dtype() == flat_.dtype(),
                 "the gradient of ", parameters_[parameter].name(),
                 " does not lie in the flat buffer");
  const auto bytes =
      static_cast<const std::byte*>(gradient.raw()) - static_cast<const std::byte*>(flat_.raw());
  return bytes / size_of(flat_.dtype());
}

bool GradientReducer::must_sum(const Run& run, Axis axis) const {
  return mesh_.size(axis) > 1 && (*parameters_[run.first].gradient_placements())[axis].is_partial();
}

void GradientReducer::start(Bucket& bucket) {
  for (std::size_t i = bucket.first; i < bucket.last;) {
    std::size_t last = i + 1;
    while (last < bucket.last && partial_on_same_axes(parameters_[i], parameters_[last])) ++last;
    const std::int64_t begin = begin_of(i);
    const std::int64_t end = begin_of(last - 1) + parameters_[last - 1].shape().numel();
    bucket.runs.push_back({i, last, flat_.flat(begin, {end - begin}), Pending()});
    Run& run = bucket.runs.back();
    if (must_sum(run, Axis::data))
      run.pending = mesh_.on(Axis::data).start_all_reduce(run.elements);
    i = last;
  }
}

void GradientReducer::finish(Run& run) {
  run.pending.wait();
  for (const Axis axis : kAxes)
    if (axis != Axis::data && must_sum(run, axis)) mesh_.on(axis).all_reduce(run.elements);
  for (std::size_t i = run.first; i < run.last; ++i)
    parameters_[i].set_gradient_placements(after_sums(*parameters_[i].gradient_placements()));
}

void GradientReducer::check_all_reached() const {
  std::string names;
  for (const Variable& parameter : parameters_)
    if (!parameter.gradient().defined()) names += str(names.empty() ? "" : ", ", parameter.name());
  FILIGREE_CHECK(names.empty(), mesh_.describe(), " backward reached no gradient of ", names);
}

void GradientReducer::finish() {
  if (tape_ != nullptr) tape_->on_gradient_ready(nullptr);
  tape_ = nullptr;
  check_all_reached();
  for (; unstarted_ > 0; --unstarted_) start(buckets_[unstarted_ - 1]);
  for (std::size_t b = buckets_.size(); b-- > 0;) {
    for (Run& run : buckets_[b].runs) finish(run);
    buckets_[b].runs.clear();
    buckets_[b].ready = 0;
  }
  unstarted_ = buckets_.size();
}

}  // namespace filigree
