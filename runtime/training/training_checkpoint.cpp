#include "runtime/training/training_checkpoint.hpp"
#include "runtime/storage/atomic_file.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <string_view>

namespace filigree {
namespace {

// What does not change the numbers of a run but for rounding, besides its length. The number of
// ranks is no option: a run goes on with as many as it is started with.
constexpr std::array<std::string_view, 17> kMayChange = {"data.path",
                                                         "train.steps",
                                                         "train.log_every",
                                                         "train.check_lists",
                                                         "train.validate_every",
                                                         "train.validation_tokens",
                                                         "train.max_skipped_steps",
                                                         "train.collective_timeout",
                                                         "train.threads",
                                                         "train.device",
                                                         "train.micro_batch",
                                                         "checkpoint.every",
                                                         "checkpoint.keep",
                                                         "checkpoint.keep_every",
                                                         "checkpoint.background",
                                                         "checkpoint.when_busy",
                                                         "parallel.tensor"};

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

std::map<std::string, std::string> flattened(const std::string& config) {
  std::map<std::string, std::string> values;
  std::istringstream in(config);
  std::string section;
  for (std::string line; std::getline(in, line);) {
    const std::string text = trimmed(line.substr(0, line.find('#')));
    if (text.empty()) continue;
    if (text.front() == '[') {
      section = text.substr(1, text.find(']') - 1) + '.';
      continue;
    }
    const auto equals = text.find('=');
    if (equals == std::string::npos) continue;
    values[section + trimmed(text.substr(0, equals))] = trimmed(text.substr(equals + 1));
  }
  return values;
}

NamedTensor named(const std::string& prefix, const Parameter& parameter, const Tensor& tensor) {
  return {prefix + parameter.name, tensor, parameter.global_shape, parameter.offset};
}

}  // namespace

nlohmann::json to_json(const TrainingState& state) {
  return {{"step", state.step},
          {"updates", state.updates},
          {"skipped_in_a_row", state.skipped_in_a_row},
          {"samples", state.samples},
          {"tokens", state.tokens},
          {"seed", state.seed},
          {"dataset_hash", state.dataset_hash},
          {"tokenizer_hash", state.tokenizer_hash}};
}

TrainingState training_state(const CheckpointInfo& info, const std::filesystem::path& folder) {
  TrainingState state;
  try {
    info.state.at("step").get_to(state.step);
    info.state.at("updates").get_to(state.updates);
    info.state.at("skipped_in_a_row").get_to(state.skipped_in_a_row);
    info.state.at("samples").get_to(state.samples);
    info.state.at("tokens").get_to(state.tokens);
    info.state.at("seed").get_to(state.seed);
    info.state.at("dataset_hash").get_to(state.dataset_hash);
    info.state.at("tokenizer_hash").get_to(state.tokenizer_hash);
  } catch (const nlohmann::json::exception& error) {
    throw UserError(
        str("checkpoint ", folder, " holds no training state to resume from: ", error.what()));
  }
  return state;
}

std::vector<NamedTensor> training_tensors(const ParameterStore& store,
                                          const AdamWOptimizer& optimizer) {
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < store.size(); ++i) {
    tensors.push_back(named("parameters/", store[i], store.master_of(i)));
    if (!store[i].trains) continue;
    tensors.push_back(named("optimizer/m/", store[i], store.slice(optimizer.first_moment(), i)));
    tensors.push_back(named("optimizer/v/", store[i], store.slice(optimizer.second_moment(), i)));
  }
  return tensors;
}

void read_tensor(const CheckpointReader& reader, const NamedTensor& target,
                 const ExecutionContext& context) {
  if (target.tensor.device().kind == DeviceKind::cpu) return reader.read(target);
  NamedTensor host = target;
  host.tensor = Tensor::empty(target.tensor.shape(), target.tensor.dtype());
  reader.read(host);
  context.copy(host.tensor, target.tensor);
}

void load_training_tensors(const CheckpointReader& reader, TrainingEngine& engine) {
  for (const NamedTensor& target : training_tensors(engine.parameters(), engine.optimizer()))
    read_tensor(reader, target, engine.context());
  engine.parameters().refresh_compute(engine.context());
}

void load_parameters(const CheckpointReader& reader, const ParameterStore& store,
                     ExecutionContext& context) {
  for (std::size_t i = 0; i < store.size(); ++i)
    read_tensor(reader, named("parameters/", store[i], store.master_of(i)), context);
  store.refresh_compute(context);
}

void check_same_data(const TrainingState& saved, const std::string& dataset_hash,
                     const std::string& tokenizer_hash, const std::filesystem::path& data) {
  if (saved.tokenizer_hash != tokenizer_hash)
    throw UserError(str("the run was trained with tokenizer ", saved.tokenizer_hash,
                        ", the shards in ", data, " were made with ", tokenizer_hash,
                        "; resume with the run's own shards"));
  if (saved.dataset_hash != dataset_hash)
    throw UserError(str("the run was trained on data ", saved.dataset_hash, ", the shards in ",
                        data, " are ", dataset_hash, "; resume with the run's own shards"));
}

void check_same_model(const CheckpointInfo& saved, const std::filesystem::path& config_file) {
  const auto before = flattened(saved.config.at("text").get<std::string>());
  std::string differences;
  for (const auto& [key, value] : flattened(read_file(config_file))) {
    const bool of_model = key.starts_with("model.") || key.starts_with("sparsity.");
    const auto found = before.find(key);
    if (!of_model || found == before.end() || found->second == value) continue;
    differences += str(differences.empty() ? "" : ", ", key, " = ", value, " (saved with ",
                       found->second, ")");
  }
  if (!differences.empty())
    throw UserError(str(config_file.string(),
                        " does not describe the model of the checkpoint of step ", saved.step, ": ",
                        differences, "; put these values back"));
}

void check_resumable(const std::string& saved_config, const std::string& new_config,
                     const std::string& default_config) {
  auto saved = flattened(saved_config);
  saved.merge(flattened(default_config));
  const auto now = flattened(new_config);
  std::string differences;
  for (const auto& [key, value] : now) {
    if (std::find(kMayChange.begin(), kMayChange.end(), key) != kMayChange.end()) continue;
    const auto before = saved.find(key);
    if (before != saved.end() && before->second == value) continue;
    differences += str(differences.empty() ? "" : ", ", key, " (was ",
                       before == saved.end() ? "not set" : before->second, ", now ", value, ")");
  }
  if (differences.empty()) return;
  std::string allowed;
  for (const std::string_view key : kMayChange) allowed += str(allowed.empty() ? "" : ", ", key);
  throw UserError(str("resuming with other options would not continue the same run: ", differences,
                      "; what may change: ", allowed));
}

}  // namespace filigree
