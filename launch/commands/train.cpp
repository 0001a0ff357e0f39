#include "launch/commands/train.hpp"

#include <filesystem>

#include "launch/commands/world.hpp"
#include "launch/device.hpp"
#include "launch/process.hpp"
#include "launch/run_config.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/stop_signal.hpp"
#include "runtime/training/trainer.hpp"

namespace filigree {
namespace {

// What `convert --from` makes holds weights, and nothing of a training to go on with.
void require_trained(const std::string& run) {
  if (std::filesystem::exists(RunDirectory::open(run).metrics_file())) return;
  throw UserError(str("--resume ", run,
                      ": nothing was trained there yet, so there is no optimizer and no data to go "
                      "on with; start a run on its weights: filigree train --config ",
                      run, "/config.cfg --train.init_from ", run, " --data.path SHARDS --run NEW"));
}

int train_on_ranks(const RunArguments& arguments, const RankEnvironment& environment) {
  const StopSignal stop;
  TrainingJob job;
  agree(*environment.world, [&] {
    const std::int64_t vocabulary =
        TrainingData::open(arguments.config.data.path).train.vocabulary();
    job.config = resolve(arguments.config, environment.world->size(), vocabulary);
  });
  job.config_text = run_config_text(job.config);
  job.default_config_text = run_config_text({});
  job.config_hash = run_config_hash(job.config);
  job.resume = !arguments.resume.empty();
  job.context = make_context(choose_device(job.config.train.device, environment),
                             threads_per_rank(job.config.train.threads, environment));
  job.stop_requested = [&] { return stop.requested(); };
  const auto world = communicator_for(job.context, environment.world, environment.timeout);
  if (train(job, world) == TrainingOutcome::finished) return exit_code::kOk;
  print_once(
      str("interrupted and saved; go on with: filigree train --resume ", job.config.run, "\n"));
  return exit_code::kInterrupted;
}

int run(const std::vector<std::string>& words) {
  const auto arguments = parse_run_arguments(train_command(), words);
  if (!arguments) return exit_code::kOk;
  if (!arguments->resume.empty()) require_trained(arguments->resume);
  return run_in_world(
      arguments->config.train.collective_timeout,
      [&](const RankEnvironment& environment) { return train_on_ranks(*arguments, environment); });
}

}  // namespace

Command train_command() {
  return {
      "train",
      "train a language model on token shards; SIGUSR1 and SIGTERM save it and exit with code 75",
      "mpirun -np 8 filigree train --config configs/lm_7m.cfg --parallel.tensor 2", run};
}

}  // namespace filigree
