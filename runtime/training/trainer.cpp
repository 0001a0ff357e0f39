#include "runtime/training/trainer.hpp"

#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "checkpoint/folders.hpp"
#include "checkpoint/retention.hpp"
#include "checkpoint/saver.hpp"
#include "data_pipeline/manifest.hpp"
#include "runtime/core/trace.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/evaluation.hpp"
#include "runtime/training/initial_weights.hpp"
#include "runtime/training/loader_source.hpp"
#include "runtime/training/memory_report.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/training_checkpoint.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string device_text(const ExecutionContext& context) {
  return context.device.kind == DeviceKind::cuda ? str("a GPU per rank")
                                                 : str(context.num_threads, " threads per rank");
}

class Trainer {
 public:
  Trainer(const TrainingJob& job, const std::shared_ptr<Communicator>& world);
  TrainingOutcome run();

 private:
  void prepare();
  void open_log();
  void lock();
  void write_config() const;
  MetricsFile::Warn warn_of_metrics();
  void find_initial_weights();
  void start_new();
  void take_up();
  void clear_leftovers();
  std::string newest_verified();
  StepReport one_step(LoaderSource& source);
  void count_work(StepReport& report);
  void account(const StepResult& result);
  void report(const StepReport& report);
  void stop_if_stuck(const StepReport& step);
  void validate();
  void save();
  void save_and_wait();
  std::optional<SaveReport> start_save();
  void conclude(const SaveReport& report);
  CheckpointInfo checkpoint_info() const;
  void print_comparison(const EvaluationResult& result) const;
  EvaluationOptions evaluation_options() const;

  const TrainingJob& job_;
  const RunConfig& config_;
  Mesh mesh_;
  std::optional<TrainingData> data_;
  std::optional<RunDirectory> directory_;
  std::optional<Log> log_;
  std::optional<CheckpointReader> checkpoint_;  // to start from; closed once read
  std::optional<TrainingEngine> engine_;
  // Of rank 0 only.
  std::unique_ptr<FileLock> lock_;
  std::optional<MetricsFile> metrics_;
  std::optional<CheckpointSaver> saver_;
  TrainingState state_;
  std::int64_t saved_step_ = 0;  // of the newest checkpoint; 0: none
  std::int64_t first_step_ = 0;  // steps done before this process started
  Clock::time_point started_ = Clock::now();
  std::int64_t unreported_steps_ = 0;  // since the last console line
  double unreported_seconds_ = 0.0;
};

Trainer::Trainer(const TrainingJob& job, const std::shared_ptr<Communicator>& world)
    : job_(job), config_(job.config), mesh_(world, job.config.parallel) {
  prepare();
  ExecutionContext context = job.context;
  context.forced_kernels = parse_forced_kernels(config_.train.kernels);
  agree(mesh_.world(), [&] {
    engine_.emplace(config_, mesh_, std::move(context), TrainingEngine::Start::later);
    if (checkpoint_ && job_.resume) load_training_tensors(*checkpoint_, *engine_);
    if (checkpoint_ && !job_.resume)
      load_initial_weights(*checkpoint_, engine_->parameters(), engine_->context());
  });
  if (checkpoint_)
    engine_->parameters_loaded();
  else
    engine_->parameters_initialised();
  engine_->optimizer().set_updates(state_.updates, engine_->context());
  checkpoint_.reset();
  saver_.emplace(directory_->checkpoints(), mesh_.world(),
                 CheckpointSaver::Options{{config_.checkpoint.keep, config_.checkpoint.keep_every},
                                          config_.checkpoint.background,
                                          job_.checkpoint_files,
                                          engine_->context()});
}

// Everything that can go wrong before memory is allocated, and the same on every rank.
void Trainer::prepare() {
  agree(mesh_.world(), [&] {
    data_ = TrainingData::open(config_.data.path);
    check_one_window(data_->train, config_.model.sequence);
    batch_share(config_.train.batch, mesh_);
    Schedule(config_.schedule, config_.optimizer.learning_rate, config_.train.steps);
    parse_forced_kernels(config_.train.kernels);
    check_trained_part(config_);
  });
  state_.seed = config_.train.seed;
  state_.dataset_hash = data_->train.hash();
  state_.tokenizer_hash = data_->train.tokenizer_hash();
  if (job_.resume) return take_up();
  if (!config_.train.init_from.empty()) find_initial_weights();
  start_new();
}

// One rank verifies them; the run's folder is not made before they are known to fit.
void Trainer::find_initial_weights() {
  std::string folder;
  agree_on_first_at_length(mesh_.world(), [&] {
    folder = initial_checkpoint(config_.train.init_from, [](const std::string& text) {
               Log().warning(text);  // the run's own is not open yet
             }).string();
  });
  folder = broadcast_text(mesh_.world(), folder, 0);
  agree(mesh_.world(), [&] {
    checkpoint_.emplace(folder);
    check_initial_weights(*checkpoint_, config_, mesh_, state_.tokenizer_hash);
  });
}

void Trainer::start_new() {
  agree_on_first(mesh_.world(), [&] {
    directory_ = RunDirectory::create(config_.run);
    lock();
    write_config();
    write_file_atomically(directory_->tokenizer_file(), tokenizer_of(config_.data.path).bytes());
    metrics_ = MetricsFile::create(directory_->metrics_file(), job_.config_hash, warn_of_metrics());
  });
  agree(mesh_.world(), [&] {
    if (!directory_) directory_ = RunDirectory::open(config_.run);
    open_log();
  });
}

// Two jobs that save to one run would remove each other's checkpoints.
void Trainer::lock() {
  lock_ = lock_checkpoints(directory_->checkpoints(),
                           [](const std::string& text) { Log().warning(text); });
}

void Trainer::write_config() const {
  write_file_atomically(directory_->config_file(),
                        str("# configuration ", job_.config_hash, "\n", job_.config_text));
}

MetricsFile::Warn Trainer::warn_of_metrics() {
  return [this](const std::string& text) { log_->warning(text); };
}

void Trainer::open_log() {
  LogSettings settings;
  settings.rank = mesh_.world().rank();
  settings.prefix = mesh_.describe();
  settings.directory = directory_->logs();
  settings.console_level = job_.console_level;
  log_.emplace(settings);
}

// One rank reads every byte of it; the others take its word.
std::string Trainer::newest_verified() {
  std::string folder;
  agree_on_first_at_length(mesh_.world(), [&] {
    const auto newest = newest_checkpoint(directory_->checkpoints(),
                                          [&](const std::string& text) { log_->warning(text); });
    if (!newest)
      throw UserError(str("run ", config_.run,
                          " has no complete checkpoint to resume from; start it again "
                          "under another --run"));
    folder = newest->string();
  });
  return broadcast_text(mesh_.world(), folder, 0);
}

// Of saves that were cut short: the disk may not have room for them and the next save.
void Trainer::clear_leftovers() {
  const std::filesystem::path folder = directory_->checkpoints();
  for (const std::filesystem::path& path : leftovers_in(folder))
    log_->info("removing what a save left that was cut short: ", path.string());
  for (const std::string& text : remove_checkpoints(folder, {}, *job_.checkpoint_files))
    log_->warning(text);
}

void Trainer::take_up() {
  agree(mesh_.world(), [&] {
    directory_ = RunDirectory::open(config_.run);
    open_log();
  });
  agree_on_first(mesh_.world(), [&] { lock(); });
  const std::string newest = newest_verified();
  agree(mesh_.world(), [&] {
    checkpoint_.emplace(newest);
    const TrainingState saved = training_state(checkpoint_->info(), newest);
    check_same_data(saved, state_.dataset_hash, state_.tokenizer_hash, config_.data.path);
    check_resumable(checkpoint_->info().config.at("text").get<std::string>(), job_.config_text,
                    job_.default_config_text);
    if (saved.step >= config_.train.steps)
      throw UserError(str("run ", config_.run, " has done ", saved.step, " of train.steps = ",
                          config_.train.steps, " steps; extend it with --train.steps N"));
    state_ = saved;
  });
  const MeshShape& saved_on = checkpoint_->info().mesh;
  if (saved_on != mesh_.shape())
    log_->info("the checkpoint was saved on layout ", saved_on.name(), " and goes on on ",
               mesh_.shape().name(), ": the same run but for rounding");
  saved_step_ = first_step_ = state_.step;
  agree_on_first(mesh_.world(), [&] {
    clear_leftovers();
    write_config();
    metrics_ = MetricsFile::resume(directory_->metrics_file(), state_.step, warn_of_metrics());
  });
}

TrainingOutcome Trainer::run() {
  log_->info(job_.resume ? str("resuming after step ", state_.step) : str("training"),
             " on layout ", mesh_.shape().name(), ", ", config_.model.parameters(), " parameters, ",
             data_->train.tokens(), " training tokens, ", config_.train.dtype, ", ",
             device_text(job_.context));
  if (!config_.train.init_from.empty())
    log_->info("weights of step 0 from ", config_.train.init_from);
  if (config_.train.only != "all") log_->info("only the ", config_.train.only, " train");
  log_->info(planned_memory_table(engine_->parameters(), engine_->optimizer(),
                                  config_.checkpoint.background ? mesh_.shape().data : 0));
  LoaderSource source(data_->train, config_, mesh_, state_.step);
  started_ = Clock::now();
  while (state_.step < config_.train.steps) {
    const StepReport step = one_step(source);
    report(step);
    if (const auto saved = saver_->poll()) conclude(*saved);
    stop_if_stuck(step);
    if (state_.step == first_step_ + 1)
      log_->info(peak_memory_table(counting_allocator(job_.context)));
    const bool last = state_.step == config_.train.steps;
    const bool stop = any_rank(mesh_.world(), job_.stop_requested && job_.stop_requested());
    const auto due = [&](std::int64_t every) { return every > 0 && state_.step % every == 0; };
    if (last || due(config_.train.validate_every)) validate();
    // A streak of skipped steps has nothing new to save, and must not push the last good checkpoint
    // out.
    const bool progressed = state_.skipped_in_a_row == 0;
    if (last || stop) {
      save_and_wait();
    } else if (progressed && due(config_.checkpoint.every)) {
      save();
    }
    if (job_.on_step) job_.on_step(step);
    if (stop && !last) return TrainingOutcome::interrupted;
  }
  return TrainingOutcome::finished;
}

StepReport Trainer::one_step(LoaderSource& source) {
  const std::int64_t step = state_.step + 1;
  ErrorContext frame(str("step ", step));
  const auto start = Clock::now();
  const double communication = communication_seconds(mesh_);
  const double waited = source.wait_seconds();

  engine_->context().reset_work();
  const bool measure = step % config_.train.log_every == 0;
  const StepResult result = engine_->step(source, step, measure, [&] { saver_->wait_for_copy(); });
  account(result);

  const double seconds = seconds_since(start);
  const double tokens = static_cast<double>(config_.train.batch * config_.model.sequence);
  StepReport report;
  report.step = step;
  report.loss = result.loss;
  report.learning_rate = result.learning_rate;
  report.gradient_norm = result.gradient_norm;
  report.tokens = state_.tokens;
  report.skipped = result.skipped;
  report.layers = result.layers;
  report.timing.seconds = seconds;
  report.timing.communication_seconds = communication_seconds(mesh_) - communication;
  report.timing.data_wait_seconds = source.wait_seconds() - waited;
  report.timing.tokens_per_second = tokens / seconds;
  count_work(report);
  const double dense_model_flops =
      3.0 * config_.model.forward_flops_per_token(config_.model.sequence) * tokens;
  const double executed_share =
      static_cast<double>(report.executed_flops) / static_cast<double>(report.dense_flops);
  report.timing.model_flops_per_second = dense_model_flops * executed_share / seconds;
  const CachingAllocator& allocator = counting_allocator(job_.context);
  report.timing.peak_bytes = allocator.peak_bytes();
  report.timing.reserved_bytes = allocator.reserved_bytes();
  report.timing.system_allocations = allocator.system_allocations();
  return report;
}

// What the kernels of all ranks did in the step.
void Trainer::count_work(StepReport& report) {
  const WorkLog& log = engine_->context().work;
  const PartUsage &gate = log[WorkPart::gate], &teacher = log[WorkPart::teacher];
  const Work all = log.total();
  const Tensor sums = Tensor::from<std::int64_t>(
      {3}, std::array{all.flops, all.dense_flops, gate.work.flops + teacher.work.flops});
  mesh_.world().all_reduce(sums);
  report.executed_flops = sums.data<std::int64_t>()[0];
  report.dense_flops = sums.data<std::int64_t>()[1];
  report.gate_flops = sums.data<std::int64_t>()[2];
  report.timing.attention_seconds = log[WorkPart::attention].seconds;
  report.timing.gate_seconds = gate.seconds;
  report.timing.teacher_seconds = teacher.seconds;
}

void Trainer::account(const StepResult& result) {
  ++state_.step;
  state_.samples += config_.train.batch;
  state_.tokens += config_.train.batch * config_.model.sequence;
  if (!result.skipped) ++state_.updates;
  state_.skipped_in_a_row = result.skipped ? state_.skipped_in_a_row + 1 : 0;
}

// Every rank has the same result, so all stop together.
void Trainer::stop_if_stuck(const StepReport& step) {
  if (!step.skipped) return;
  log_->warning("step ", state_.step, " skipped: loss ", step.loss, ", gradient norm ",
                step.gradient_norm, "; skipped in a row: ", state_.skipped_in_a_row);
  if (state_.skipped_in_a_row <= config_.train.max_skipped_steps) return;
  if (saver_->busy()) conclude(saver_->finish());
  throw AgreedError(str(
      "loss or gradient was not finite in ", state_.skipped_in_a_row, " steps in a row up to step ",
      state_.step, " (allowed: train.max_skipped_steps = ", config_.train.max_skipped_steps,
      "); last good checkpoint: ",
      saved_step_ == 0 ? str("none") : str("step ", saved_step_, " in ", directory_->checkpoints()),
      "; lower optimizer.learning_rate, or use train.dtype f32 where it is bf16"));
}

void Trainer::report(const StepReport& report) {
  if (metrics_) metrics_->write(report);
  ++unreported_steps_;
  unreported_seconds_ += report.timing.seconds;
  const bool due = report.step % config_.train.log_every == 0;
  if (!due && report.step != first_step_ + 1 && report.step != config_.train.steps) return;
  // Speeds on the console are means over the steps since the last line.
  StepReport shown = report;
  const double faster =
      report.timing.seconds * static_cast<double>(unreported_steps_) / unreported_seconds_;
  shown.timing.tokens_per_second *= faster;
  shown.timing.model_flops_per_second *= faster;
  unreported_steps_ = 0;
  unreported_seconds_ = 0.0;
  const double per_step = seconds_since(started_) / static_cast<double>(report.step - first_step_);
  log_->info(console_line(shown, config_.train.steps,
                          per_step * static_cast<double>(config_.train.steps - report.step)));
}

EvaluationOptions Trainer::evaluation_options() const {
  EvaluationOptions options;
  options.length = config_.model.sequence;
  options.rows = micro_batch_rows(config_.train, batch_share(config_.train.batch, mesh_));
  options.max_tokens = config_.train.validation_tokens;
  return options;
}

void Trainer::validate() {
  if (!data_->validation) return;
  const TraceRange range("validation");
  const auto start = Clock::now();
  EvaluationOptions options = evaluation_options();
  options.measured_layers = config_.model.layers;
  const EvaluationResult result =
      evaluate(engine_->model(), *data_->validation, mesh_, options, engine_->context());
  log_->info("validation after step ", state_.step, " | loss ", fixed(result.loss, 4),
             " | perplexity ", fixed(result.perplexity, 2), " | bits per byte ",
             fixed(result.bits_per_byte, 4), " | ", result.tokens, " tokens",
             sparsity_text(result.layers));
  if (metrics_)
    metrics_->write(ValidationReport{state_.step, result.loss, result.perplexity,
                                     result.bits_per_byte, result.tokens, seconds_since(start),
                                     result.layers});
  if (state_.step == config_.train.steps) print_comparison(result);
}

void Trainer::print_comparison(const EvaluationResult& result) const {
  const EvaluationResult unigram =
      evaluate_unigram(data_->train, *data_->validation, mesh_.world(), evaluation_options());
  log_->info("validation perplexity: model ", fixed(result.perplexity, 2),
             ", unigram model of the same text ", fixed(unigram.perplexity, 2));
}

CheckpointInfo Trainer::checkpoint_info() const {
  CheckpointInfo info;
  info.step = state_.step;
  info.mesh = mesh_.shape();
  info.config_hash = job_.config_hash;
  info.state = to_json(state_);
  info.config = {{"text", job_.config_text}};
  return info;
}

// Once the one before has ended.
std::optional<SaveReport> Trainer::start_save() {
  const TraceRange range("save");
  if (saver_->busy()) conclude(saver_->finish());
  return saver_->start(checkpoint_info(),
                       training_tensors(engine_->parameters(), engine_->optimizer()));
}

void Trainer::save() {
  if (saver_->busy() && config_.checkpoint.when_busy == "skip") {
    log_->warning("no checkpoint of step ", state_.step,
                  ": the one before is still being written (checkpoint.when_busy = skip)");
    return;
  }
  if (const auto ended = start_save()) conclude(*ended);
}

// There is no later checkpoint to make good for this one.
void Trainer::save_and_wait() {
  std::optional<SaveReport> ended = start_save();
  if (!ended) ended = saver_->finish();
  conclude(*ended);
  for (const std::string& warning : saver_->wait_for_removal()) log_->warning(warning);
  if (ended->failed()) throw AgreedError(ended->failure);
}

// All ranks have the same report.
void Trainer::conclude(const SaveReport& report) {
  if (metrics_)
    metrics_->write(CheckpointReport{report.step, report.saved.bytes, report.failure,
                                     report.pause_seconds, report.total_seconds});
  for (const std::string& warning : report.saved.warnings) log_->warning(warning);
  if (report.failed()) {
    log_->warning(report.failure, "; newest checkpoint: ",
                  saved_step_ == 0 ? str("none") : str("step ", saved_step_));
    return;
  }
  saved_step_ = report.step;
  log_->info("saved checkpoint of step ", report.step, " in ", directory_->checkpoints().string(),
             " (", readable_bytes(static_cast<double>(report.saved.bytes)), ", paused for ",
             fixed(report.pause_seconds, 3), " s of ", fixed(report.total_seconds, 3), ')');
}

}  // namespace

TrainingData TrainingData::open(const std::string& folder) {
  if (folder.empty())
    throw UserError("data.path is empty; give the shard folder that `filigree data tokenize` made");
  TrainingData data{TokenDataset::open(folder, "train"), std::nullopt};
  if (read_manifest(folder).splits.contains("validation"))
    data.validation = TokenDataset::open(folder, "validation");
  return data;
}

RunConfig resolve(const RunConfig& config, int world_size, std::int64_t vocabulary) {
  RunConfig result = config;
  result.model = config.model.resolved(vocabulary);
  MeshShape& mesh = result.parallel;
  const int model_ranks = mesh.tensor * mesh.context * mesh.pipeline;
  if (model_ranks < 1 || world_size % model_ranks != 0)
    throw UserError(str("parallel.tensor is ", mesh.tensor, ", which does not divide the ",
                        world_size, " ranks of the job; start a multiple of it with mpirun -np"));
  mesh.data = world_size / model_ranks;
  result.model.check_tensor_parallel(mesh.tensor);
  return result;
}

TrainingOutcome train(const TrainingJob& job, const std::shared_ptr<Communicator>& world) {
  return Trainer(job, world).run();
}

}  // namespace filigree
