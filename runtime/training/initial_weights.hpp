// Weights of another run as the start of a new one.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/checkpoint.hpp"
#include "layers/parameter.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

// The checkpoint that train.init_from names: the folder of one, or the newest of the run in that
// folder; `warn` is told of damaged newer ones. Every byte of it has been verified. Throws
// UserError when there is none or it is damaged.
std::filesystem::path initial_checkpoint(const std::string& init_from,
                                         const std::function<void(const std::string&)>& warn);

// Throws UserError unless the checkpoint has every parameter of the configured model, in its shape,
// and no other, and was trained with the same tokenizer. Weights of gates may be absent: they keep
// their initialisation.
void check_initial_weights(const CheckpointReader& reader, const RunConfig& config,
                           const Mesh& mesh, const std::string& tokenizer_hash);

// Fills the parameters that the checkpoint has; step, moments and schedule start anew.
// Precondition: checked.
void load_initial_weights(const CheckpointReader& reader, const ParameterStore& store,
                          ExecutionContext& context);

}  // namespace filigree
