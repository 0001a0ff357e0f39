// How training speed grows with ranks, and what the layout costs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "parallel/mesh.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

// data x tensor grids of 1, 2, 4, ... and `ranks` ranks over which the heads can be split and that
// the batch can feed, fewest ranks first.
std::vector<MeshShape> benchmark_layouts(const RunConfig& config, int ranks);

struct ScaleOptions {
  std::int64_t steps = 10;        // measured
  std::int64_t warmup_steps = 2;  // before them, not measured
  ExecutionContext context;       // where this rank computes; the peak is that of its allocator
};

struct ScaleResult {
  MeshShape layout;
  double seconds_per_step = 0;
  double tokens_per_second = 0;
  double model_flops_per_second = 0;
  double communication_seconds = 0;  // per step, mean over ranks
  std::int64_t peak_bytes = 0;       // most of any rank
};

// Trains for a few steps on the batch of `config` whatever the layout: on the shards in data.path,
// or on random tokens where that is empty. `world` has layout.world() ranks. Collective; every rank
// gets the result.
ScaleResult measure_layout(const RunConfig& config, const MeshShape& layout,
                           std::shared_ptr<Communicator> world, const ScaleOptions& options);

// Speed-ups are relative to the first result.
std::string scale_table_markdown(const std::vector<ScaleResult>& results);
nlohmann::ordered_json scale_table_json(const std::vector<ScaleResult>& results);

}  // namespace filigree
