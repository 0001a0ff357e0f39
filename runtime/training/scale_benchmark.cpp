#include "runtime/training/scale_benchmark.hpp"

#include <algorithm>
#include <chrono>
#include <sstream>

#include "runtime/core/random.hpp"
#include "runtime/training/loader_source.hpp"
#include "runtime/training/memory_report.hpp"
#include "runtime/training/metrics.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {
namespace {

// Tokens that depend on their place in the run only, so that every layout trains on the same ones.
class RandomSource final : public MicroBatchSource {
 public:
  RandomSource(const RunConfig& config, const Mesh& mesh)
      : config_(config),
        share_(batch_share(config.train.batch, mesh)),
        rows_(micro_batch_rows(config.train, share_)) {}

  std::int64_t micro_batches() const override { return (share_.size() + rows_ - 1) / rows_; }

  TokenBatch next() override {
    const std::int64_t begin = share_.begin + delivered_ % micro_batches() * rows_;
    TokenBatch batch;
    batch.batch = std::min(rows_, share_.end - begin);
    batch.length = config_.model.sequence;
    batch.first_sample = delivered_ / micro_batches() * config_.train.batch + begin;
    ++delivered_;
    batch.tokens_T = tokens(batch, 0);
    batch.targets_T = tokens(batch, 1);
    return batch;
  }

 private:
  Tensor tokens(const TokenBatch& batch, std::int64_t shift) const {
    const Tensor result = Tensor::empty({batch.batch * batch.length}, DType::i32);
    const auto vocabulary = static_cast<double>(config_.model.vocabulary);
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const Philox random(config_.train.seed, RandomPurpose::test,
                          static_cast<std::uint64_t>(batch.first_sample + row));
      for (std::int64_t i = 0; i < batch.length; ++i)
        result.data<std::int32_t>()[row * batch.length + i] = static_cast<std::int32_t>(
            random.uniform(static_cast<std::uint64_t>(i + shift)) * vocabulary);
    }
    return result;
  }

  RunConfig config_;
  ShardRange share_;
  std::int64_t rows_;
  std::int64_t delivered_ = 0;
};

std::unique_ptr<MicroBatchSource> make_source(const RunConfig& config, const Mesh& mesh) {
  if (config.data.path.empty()) return std::make_unique<RandomSource>(config, mesh);
  return std::make_unique<LoaderSource>(TokenDataset::open(config.data.path, "train"), config, mesh,
                                        0);
}

double reduced(Communicator& world, double value, ReduceOp op) {
  const Tensor tensor = Tensor::zeros(Shape{1}, DType::f64);
  *tensor.data<double>() = value;
  world.all_reduce(tensor, op);
  return *tensor.data<double>();
}

bool fits(const RunConfig& config, const MeshShape& layout) {
  if (layout.data > config.train.batch) return false;
  try {
    config.model.check_tensor_parallel(layout.tensor);
  } catch (const UserError&) {
    return false;
  }
  return true;
}

// One row of the table; `first` is what speed-ups refer to.
struct Row {
  double speed_up, communication_share;
  Row(const ScaleResult& result, const ScaleResult& first)
      : speed_up(result.tokens_per_second / first.tokens_per_second),
        communication_share(result.communication_seconds / result.seconds_per_step) {}
};

}  // namespace

std::vector<MeshShape> benchmark_layouts(const RunConfig& config, int ranks) {
  std::vector<int> worlds;
  for (int world = 1; world < ranks; world *= 2) worlds.push_back(world);
  worlds.push_back(ranks);
  std::vector<MeshShape> layouts;
  for (const int world : worlds)
    for (int tensor = 1; tensor <= world; ++tensor) {
      if (world % tensor != 0) continue;
      MeshShape layout;
      layout.data = world / tensor;
      layout.tensor = tensor;
      if (fits(config, layout)) layouts.push_back(layout);
    }
  return layouts;
}

ScaleResult measure_layout(const RunConfig& config, const MeshShape& layout,
                           std::shared_ptr<Communicator> world, const ScaleOptions& options) {
  const Mesh mesh(std::move(world), layout);
  RunConfig run = config;
  run.parallel = layout;
  run.schedule.kind = "constant";  // speed does not depend on it, and it fits any number of steps
  run.schedule.warmup_steps = 0;
  run.train.steps = options.warmup_steps + options.steps;
  ExecutionContext context = options.context;
  context.forced_kernels = parse_forced_kernels(run.train.kernels);
  TrainingEngine engine(run, mesh, std::move(context));
  const auto source = make_source(run, mesh);

  for (std::int64_t step = 1; step <= options.warmup_steps; ++step) engine.step(*source, step);
  mesh.world().barrier();
  const double communication = communication_seconds(mesh);
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t step = 1; step <= options.steps; ++step)
    engine.step(*source, options.warmup_steps + step);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double communicated = communication_seconds(mesh) - communication;

  const auto steps = static_cast<double>(options.steps);
  const double tokens = static_cast<double>(run.train.batch * run.model.sequence);
  ScaleResult result;
  result.layout = layout;
  result.seconds_per_step = reduced(mesh.world(), seconds, ReduceOp::max) / steps;
  result.tokens_per_second = tokens / result.seconds_per_step;
  result.model_flops_per_second =
      result.tokens_per_second * 3.0 * run.model.forward_flops_per_token(run.model.sequence);
  result.communication_seconds =
      reduced(mesh.world(), communicated, ReduceOp::sum) / layout.world() / steps;
  result.peak_bytes = static_cast<std::int64_t>(
      reduced(mesh.world(), static_cast<double>(counting_allocator(options.context).peak_bytes()),
              ReduceOp::max));
  return result;
}

std::string scale_table_markdown(const std::vector<ScaleResult>& results) {
  std::ostringstream out;
  out << "| layout | ranks | tokens/s | speed-up | model FLOP/s | step | communication | share | "
         "peak memory per rank |\n"
         "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
  for (const ScaleResult& result : results) {
    const Row row(result, results.front());
    out << "| " << result.layout.name() << " | " << result.layout.world() << " | "
        << readable_count(result.tokens_per_second) << " | " << fixed(row.speed_up, 2) << " | "
        << readable_count(result.model_flops_per_second) << " | "
        << fixed(1e3 * result.seconds_per_step, 1) << " ms | "
        << fixed(1e3 * result.communication_seconds, 1) << " ms | "
        << fixed(100.0 * row.communication_share, 1) << " % | "
        << readable_bytes(static_cast<double>(result.peak_bytes)) << " |\n";
  }
  return std::move(out).str();
}

nlohmann::ordered_json scale_table_json(const std::vector<ScaleResult>& results) {
  auto rows = nlohmann::ordered_json::array();
  for (const ScaleResult& result : results) {
    const Row row(result, results.front());
    rows.push_back({{"layout", result.layout.name()},
                    {"ranks", result.layout.world()},
                    {"data", result.layout.data},
                    {"tensor", result.layout.tensor},
                    {"tokens_per_second", result.tokens_per_second},
                    {"speed_up", row.speed_up},
                    {"model_flops_per_second", result.model_flops_per_second},
                    {"seconds_per_step", result.seconds_per_step},
                    {"communication_seconds_per_step", result.communication_seconds},
                    {"communication_share", row.communication_share},
                    {"peak_bytes_per_rank", result.peak_bytes}});
  }
  return rows;
}

}  // namespace filigree
