// What a training run saves and how it is taken up again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {

// Everything besides tensors that the next step depends on. Schedule, data order and dropout are
// functions of (configuration, seed, step), so the step is all that they need.
struct TrainingState {
  std::int64_t step = 0;     // steps done
  std::int64_t updates = 0;  // of them, those that were not skipped
  std::int64_t skipped_in_a_row = 0;
  std::int64_t samples = 0;  // sequences consumed
  std::int64_t tokens = 0;
  std::uint64_t seed = 0;
  std::string dataset_hash;
  std::string tokenizer_hash;
  bool operator==(const TrainingState&) const = default;
};
nlohmann::json to_json(const TrainingState& state);
// Throws UserError naming the checkpoint when a field is missing.
TrainingState training_state(const CheckpointInfo& info, const std::filesystem::path& folder);

// "parameters/NAME" of every parameter, "optimizer/m/NAME" and "optimizer/v/NAME" of every one that
// trains: this rank's slices, views of the buffers wherever they are.
std::vector<NamedTensor> training_tensors(const ParameterStore& store,
                                          const AdamWOptimizer& optimizer);

// CheckpointReader::read into a tensor of the context.
void read_tensor(const CheckpointReader& reader, const NamedTensor& target,
                 const ExecutionContext& context);
// Fills parameters and moments from a checkpoint of any layout.
void load_training_tensors(const CheckpointReader& reader, TrainingEngine& engine);
// Parameters only.
void load_parameters(const CheckpointReader& reader, const ParameterStore& store,
                     ExecutionContext& context);

// Throws UserError that says what differs: the data or the tokenizer.
void check_same_data(const TrainingState& saved, const std::string& dataset_hash,
                     const std::string& tokenizer_hash, const std::filesystem::path& data);

// Throws UserError where RUN/config.cfg, which `config_file` is, describes another model than was
// saved, naming each option with both values: weights alone would not show it. Options that one of
// the two does not name are left out.
void check_same_model(const CheckpointInfo& saved, const std::filesystem::path& config_file);

// The options that differ between two configurations in file form ("[section]", "key = value") and
// may not change when a run is resumed. An option that the saved one does not name, since it was
// written before there was one, had its default. Throws UserError naming each with both values.
void check_resumable(const std::string& saved_config, const std::string& new_config,
                     const std::string& default_config = "");

}  // namespace filigree
