// Everything that decides a training run besides the model's shape. Registered as options in
// launch/.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "layers/model_config.hpp"
#include "parallel/mesh.hpp"

namespace filigree {

struct DataConfig {
  std::string path;  // shard folder made by `filigree data tokenize`
};

struct OptimizerConfig {
  double learning_rate = 3e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  bool decay_norms = false;  // also decay norm weights and embeddings
  double clip_norm = 1.0;    // largest gradient norm of the model, and of its gates; 0: no clipping
};

struct ScheduleConfig {
  std::string kind = "cosine";  // cosine | wsd | constant
  std::int64_t warmup_steps = 100;
  std::int64_t decay_steps = 0;  // wsd: length of the final decay; 0: a fifth of the run
  double final_fraction = 0.1;   // learning rate at the end, as a fraction of the peak
};

struct TrainConfig {
  std::int64_t steps = 1000;     // optimizer steps in all
  std::int64_t batch = 32;       // sequences per step over all ranks
  std::int64_t micro_batch = 0;  // sequences per rank and micro-step; 0: the rank's whole share
  std::string dtype = "f32";     // f64 | f32 | bf16: compute precision
  std::string device = "cpu";    // cpu | cuda | auto: where the ranks compute
  std::uint64_t seed = 1234;
  std::string only = "all";  // all | gates: which parameters train
  std::string init_from;     // run or checkpoint whose weights the run starts from; "": random
  std::int64_t check_lists = 100;  // steps between checks that tensor ranks chose alike; 0: never
  std::int64_t log_every = 10;
  std::int64_t validate_every = 0;      // 0: at the end only
  std::int64_t validation_tokens = 0;   // 0: the whole validation split
  std::int64_t max_skipped_steps = 10;  // non-finite steps in a row before the run stops
  double collective_timeout = 300.0;    // seconds
  std::string cuda_graph = "auto";      // auto | true | false: capture steps and launch them again
  int threads = 0;      // OpenMP threads per rank; 0: the cores of the host shared out
  std::string kernels;  // "op=implementation,..." to force kernels
};

struct CheckpointConfig {
  std::int64_t every = 0;          // steps; 0: at the end only
  std::int64_t keep = 3;           // newest checkpoints kept
  std::int64_t keep_every = 0;     // those whose step is a multiple of it are kept too; 0: none
  bool background = true;          // training goes on while a checkpoint is written
  std::string when_busy = "wait";  // wait | skip: a save is due while one is being written
};

struct RunConfig {
  std::string run;  // run directory
  ModelConfig model;
  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  CheckpointConfig checkpoint;
  MeshShape parallel;  // data is derived: world / (tensor * context * pipeline)
};

// Throws UserError unless train.only leaves something that learns. `config.model` is resolved.
void check_trained_part(const RunConfig& config);

// TrainConfig::kernels as ExecutionContext::forced_kernels; "*" stands for every op. Throws
// UserError naming an op or an implementation that there is none of.
std::map<std::string, std::string, std::less<>> parse_forced_kernels(const std::string& text);

}  // namespace filigree
