#include "launch/run_config.hpp"

#include <filesystem>
#include <iomanip>
#include <limits>
#include <sstream>

#include "launch/device.hpp"
#include "layers/sparsity/registry.hpp"
#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A size or a count, from `min` on.
OptionSpec count(std::string description, std::string unit, double min) {
  return {.description = std::move(description), .unit = std::move(unit), .min = min};
}
OptionSpec number(std::string description, double min, double max, bool above_min = false) {
  return {.description = std::move(description), .min = min, .max = max, .above_min = above_min};
}
OptionSpec choice(std::string description, std::vector<std::string> allowed) {
  return {.description = std::move(description), .allowed = std::move(allowed)};
}
OptionSpec text(std::string description, std::string placeholder = "") {
  return {.description = std::move(description), .unit = std::move(placeholder)};
}

void add_model(Options& options, ModelConfig& model) {
  options.add("model.vocabulary", &model.vocabulary,
              count("vocabulary; 0: the tokenizer's", "tokens", 0));
  options.add("model.layers", &model.layers, count("transformer blocks", "", 1));
  options.add("model.width", &model.width, count("width of the residual stream", "", 1));
  options.add("model.heads", &model.heads, count("query heads", "", 1));
  options.add(
      "model.kv_heads", &model.kv_heads,
      count("key/value heads, each shared by heads / kv_heads query heads; 0: as many as heads", "",
            0));
  options.add("model.head_dim", &model.head_dim, count("width of a head; 0: width / heads", "", 0));
  options.add(
      "model.feed_forward", &model.feed_forward,
      count("inner width of SwiGLU; 0: 8/3 of the width, rounded up to a multiple of 32", "", 0));
  options.add("model.sequence", &model.sequence, count("longest sequence trained on", "tokens", 1));
  options.add("model.mechanism", &model.mechanism,
              choice("attention mechanism", mechanism_names()));
  options.add("model.tied_embeddings", &model.tied_embeddings,
              text("the output matrix is the embedding table"));
  options.add("model.rope_theta", &model.rope_theta,
              number("base of the rotary position frequencies", 0, kInfinity, true));
  options.add("model.rope_scaling", &model.rope_scaling,
              choice("slower rotary positions, of a model that is stretched to longer texts",
                     {"none", "linear", "llama3"}));
  options.add("model.rope_factor", &model.rope_factor,
              number("how much slower rope_scaling makes the pairs that it slows", 1, kInfinity));
  options.add("model.rope_low_turns", &model.rope_low_turns,
              number("llama3 slows pairs that turn less often than this over the original sequence",
                     0, kInfinity, true));
  options.add("model.rope_high_turns", &model.rope_high_turns,
              number("llama3 leaves pairs that turn more often than this", 0, kInfinity, true));
  options.add("model.rope_original_sequence", &model.rope_original_sequence,
              count("longest sequence before rope_scaling = llama3", "tokens", 1));
  options.add("model.norm_eps", &model.norm_eps,
              number("added to the mean square in RMSNorm", 0, 1, true));
  options.add("model.initial_deviation", &model.initial_deviation,
              number("standard deviation of the initial weights", 0, kInfinity, true));
  options.add(
      "model.embedding_deviation", &model.embedding_deviation,
      number("standard deviation of the initial embeddings; 0: initial_deviation", 0, kInfinity));
  options.add("model.dropout", &model.dropout,
              number("dropout of the embedding and of both branches of every block", 0, 0.95));
  options.add("model.recompute", &model.recompute,
              choice("what the backward pass computes again instead of keeping",
                     {"none", "attention", "block"}));
  options.add("model.qkv_bias", &model.qkv_bias,
              text("queries, keys and values are projected with a bias"));
  options.add("model.qk_norm", &model.qk_norm,
              text("RMSNorm of every query and key head before position embedding"));
  options.add("model.output_gate", &model.output_gate,
              text("multiply what attention gives by a sigmoid of a projection of its input"));
  options.add("model.sigma_reparam", &model.sigma_reparam,
              choice("linear layers of a block whose spectral norm is a parameter (sigmaReparam)",
                     {"none", "attention", "all"}));
}

void add_sparsity_choice(Options& options, SparsityConfig& sparsity) {
  options.add("sparsity.key_block", &sparsity.key_block,
              {.description = "keys of a block", .unit = "tokens", .min = 16, .max = 128});
  options.add(
      "sparsity.query_group", &sparsity.query_group,
      {.description = "queries that share a choice", .unit = "tokens", .min = 1, .max = 128});
  options.add("sparsity.density", &sparsity.density,
              number("share of the allowed query-key pairs to read", 0, 1, true));
  options.add("sparsity.selection", &sparsity.selection,
              choice("what limits a group's blocks", {"density", "top_k", "threshold"}));
  options.add("sparsity.top_k", &sparsity.top_k,
              count("blocks per group for selection top_k, forced ones included", "blocks", 0));
  options.add("sparsity.threshold", &sparsity.threshold,
              number("least share of a group's softmax over blocks for selection threshold", 0, 1));
  options.add("sparsity.window", &sparsity.window,
              count("tokens up to a query that it always reads", "tokens", 0));
  options.add("sparsity.sinks", &sparsity.sinks,
              count("tokens at the start of a document that are always read", "tokens", 0));
  options.add("sparsity.dense_heads", &sparsity.dense_heads,
              number("share of heads that read everything, spread evenly", 0, 1));
}

void add_sparsity_learning(Options& options, SparsityConfig& sparsity) {
  options.add("sparsity.learn", &sparsity.learn,
              choice("how the gate learns; auto: in every way that the mechanism can",
                     {"auto", "distill", "end_to_end", "both", "none"}));
  options.add("sparsity.head_gate", &sparsity.head_gate,
              text("skip heads that a learned gate finds not worth their work"));
  options.add("sparsity.head_threshold", &sparsity.head_threshold,
              number("least value of the head gate with which a head is read", 0, 1));
  options.add("sparsity.gate_dim", &sparsity.gate_dim,
              count("width of the gate's projections; 0: the head's", "", 0));
  options.add("sparsity.distill_weight", &sparsity.distill_weight,
              number("distillation loss beside the language model's", 0, kInfinity));
  options.add("sparsity.distill_share", &sparsity.distill_share,
              number("share of the groups that a step compares with dense attention", 0, 1, true));
  options.add("sparsity.warmup_steps", &sparsity.warmup_steps,
              count("dense attention at the start", "steps", 0));
  options.add("sparsity.ramp_steps", &sparsity.ramp_steps,
              count("fall of the density from 1 to its target", "steps", 0));
}

void add_sparsity_layouts(Options& options, SparsityConfig& sparsity) {
  options.add("sparsity.local_blocks", &sparsity.local_blocks,
              count("window of a fixed layout, 0: its authors' choice; blocks before a group that "
                    "adaptive always reads, 0: one",
                    "blocks", 0));
  options.add("sparsity.global_blocks", &sparsity.global_blocks,
              count("blocks of a fixed layout that all later ones read", "blocks", 0));
  options.add("sparsity.random_blocks", &sparsity.random_blocks,
              count("random blocks per row of deepspeed_bigbird", "blocks", 0));
  options.add("sparsity.stride_blocks", &sparsity.stride_blocks,
              count("stride of s2_strided", "blocks", 1));
  options.add("sparsity.head_patterns", &sparsity.head_patterns,
              count("global patterns that the heads of deepspeed_fixed take in turn", "", 1));
}

void add_optimizer(Options& options, OptimizerConfig& optimizer) {
  options.add("optimizer.learning_rate", &optimizer.learning_rate,
              number("peak learning rate of AdamW", 0, 10));
  options.add("optimizer.beta1", &optimizer.beta1,
              number("decay of the first moment", 0, 0.999999));
  options.add("optimizer.beta2", &optimizer.beta2,
              number("decay of the second moment", 0, 0.999999));
  options.add("optimizer.eps", &optimizer.eps,
              number("added to the root of the second moment", 0, 1, true));
  options.add("optimizer.weight_decay", &optimizer.weight_decay,
              number("decoupled weight decay", 0, 10));
  options.add("optimizer.decay_norms", &optimizer.decay_norms,
              text("decay norm weights and embeddings too"));
  options.add(
      "optimizer.clip_norm", &optimizer.clip_norm,
      number("largest gradient norm of the model, and of its gates; 0: no clipping", 0, kInfinity));
}

void add_schedule(Options& options, ScheduleConfig& schedule) {
  options.add("schedule.kind", &schedule.kind,
              choice("learning rate after the warm-up", {"cosine", "wsd", "constant"}));
  options.add("schedule.warmup_steps", &schedule.warmup_steps, count("linear warm-up", "steps", 0));
  options.add("schedule.decay_steps", &schedule.decay_steps,
              count("length of the final decay of wsd; 0: a fifth of the run", "steps", 0));
  options.add("schedule.final_fraction", &schedule.final_fraction,
              number("learning rate at the end as a fraction of the peak", 0, 1));
}

void add_train(Options& options, TrainConfig& train) {
  options.add("train.steps", &train.steps, count("optimizer steps in all", "steps", 1));
  options.add("train.batch", &train.batch,
              count("sequences per step over all ranks", "sequences", 1));
  options.add(
      "train.micro_batch", &train.micro_batch,
      count("sequences per rank and micro-step; 0: the rank's whole share", "sequences", 0));
  options.add("train.dtype", &train.dtype, choice("compute precision", {"f64", "f32", "bf16"}));
  options.add("train.device", &train.device, device_option());
  options.add("train.seed", &train.seed, count("seed of every random number", "", 0));
  options.add("train.only", &train.only,
              choice("what trains; gates: the rest of the model stays as it is, bit for bit",
                     {"all", "gates"}));
  options.add("train.init_from", &train.init_from,
              text("take the weights of this run's newest checkpoint, or of this checkpoint, "
                   "instead of random ones; gates that it has not start as usual",
                   "RUN"));
  options.add(
      "train.check_lists", &train.check_lists,
      count("between checks that tensor ranks choose the same blocks; 0: never", "steps", 0));
  options.add("train.log_every", &train.log_every, count("between console lines", "steps", 1));
  options.add("train.validate_every", &train.validate_every,
              count("between validations; 0: at the end only", "steps", 0));
  options.add("train.validation_tokens", &train.validation_tokens,
              count("how much of the validation split to use; 0: all", "tokens", 0));
  options.add(
      "train.max_skipped_steps", &train.max_skipped_steps,
      count("steps in a row with a non-finite loss or gradient before the run stops", "steps", 0));
  options.add("train.collective_timeout", &train.collective_timeout,
              {.description = "longest wait for another rank",
               .unit = "seconds",
               .min = 0,
               .above_min = true});
  options.add("train.cuda_graph", &train.cuda_graph,
              choice("capture a step on a GPU and launch it again as a whole; auto: where it can "
                     "be done",
                     {"auto", "true", "false"}));
  options.add("train.threads", &train.threads,
              count("OpenMP threads per rank; 0: the host's cores shared out", "threads", 0));
  options.add("train.kernels", &train.kernels,
              text("force kernel implementations: op=implementation,...", "LIST"));
}

void add_sections(Options& options, RunConfig& config) {
  options.add("checkpoint.every", &config.checkpoint.every,
              count("between checkpoints; 0: at the end only", "steps", 0));
  options.add(
      "checkpoint.keep", &config.checkpoint.keep,
      count("newest checkpoints kept; the last two that are intact stay in any case", "", 1));
  options.add("checkpoint.keep_every", &config.checkpoint.keep_every,
              count("checkpoints of steps that are a multiple of it are kept for good; 0: none",
                    "steps", 0));
  options.add("checkpoint.background", &config.checkpoint.background,
              {.description = "training goes on while a checkpoint is written, from a copy in host "
                              "memory; false: it waits, without the copy"});
  options.add(
      "checkpoint.when_busy", &config.checkpoint.when_busy,
      choice("a checkpoint is due while the one before is being written", {"wait", "skip"}));
  options.add("parallel.tensor", &config.parallel.tensor,
              count("ranks that split every layer; the other ranks are data parallel", "ranks", 1));
}

std::string default_run_directory(const std::string& config_file) {
  return "runs/" + std::filesystem::path(config_file).stem().string();
}

std::string read_run_text(const std::string& run, const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    throw UserError(str("'", run, "' is not a run directory: there is no ", path,
                        "; `filigree train` makes one under its --run"));
  return read_file(path);
}

std::string run_text_path(const std::string& run) {
  return (std::filesystem::path(run) / "config.cfg").string();
}

}  // namespace

void add_run_config(Options& options, RunConfig& config) {
  add_model(options, config.model);
  add_sparsity_choice(options, config.model.sparsity);
  add_sparsity_learning(options, config.model.sparsity);
  add_sparsity_layouts(options, config.model.sparsity);
  options.add("data.path", &config.data.path,
              text("folder of token shards, made by `filigree data tokenize`", "DIR"));
  add_optimizer(options, config.optimizer);
  add_schedule(options, config.schedule);
  add_train(options, config.train);
  options.add_alias("device", "train.device");
  add_sections(options, config);
}

std::optional<RunArguments> parse_run_arguments(const Command& command,
                                                const std::vector<std::string>& arguments,
                                                const std::function<void(Options&)>& add_more) {
  RunArguments result;
  Options options(command);
  options.add("config", &result.config_file,
              text("configuration file; presets are in configs/", "FILE"));
  options.add(
      "run", &result.config.run,
      text("directory of the new run; default runs/<name of the configuration file>", "DIR"));
  options.add("resume", &result.resume, text("go on with the run in this directory", "RUN"));
  if (add_more) add_more(options);
  add_run_config(options, result.config);
  options.set_loader([&] {
    if (!result.resume.empty() && (!result.config_file.empty() || !result.config.run.empty()))
      throw UserError(
          "--resume takes the directory and the configuration of the run; leave out --run and "
          "--config");
    if (!result.resume.empty()) {
      const std::string path = run_text_path(result.resume);
      options.load_text(read_run_text(result.resume, path), path);
      result.config.run = result.resume;
    }
    if (!result.config_file.empty()) options.load_file(result.config_file);
    if (result.config.run.empty() && !result.config_file.empty())
      result.config.run = default_run_directory(result.config_file);
    if (result.config.run.empty())
      throw UserError(
          "give --run DIR for a new run, --config FILE to name it after, or --resume RUN");
  });
  if (!options.parse(arguments)) return std::nullopt;
  result.given = options.given();
  return result;
}

std::string run_config_text(const RunConfig& config) {
  RunConfig copy = config;
  Options options(Command{});
  add_run_config(options, copy);
  return options.config_text();
}

std::string run_config_hash(const RunConfig& config) {
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << hash_text(run_config_text(config));
  return out.str();
}

RunConfig run_config_from_text(const std::string& text, const std::string& source) {
  RunConfig config;
  Options options(Command{});
  add_run_config(options, config);
  options.load_text(text, source);
  return config;
}

RunConfig load_run_config(const std::string& run) {
  const std::string path = run_text_path(run);
  RunConfig config = run_config_from_text(read_run_text(run, path), path);
  config.run = run;
  return config;
}

}  // namespace filigree
