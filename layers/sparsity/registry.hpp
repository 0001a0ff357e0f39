// The attention mechanisms by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/sparsity/mechanism.hpp"

namespace filigree {

std::vector<std::string> mechanism_names();
// Why `name` is no mechanism, with the nearest one; "" when it is one.
std::string unknown_mechanism(const std::string& name);
// Whether it has a gate to train.
bool mechanism_learns(const std::string& name);
// The values of sparsity.learn that it takes, "auto" first.
std::vector<std::string> ways_to_learn(const std::string& name);
// Weights that the mechanism of a resolved configuration owns, per layer.
std::int64_t mechanism_parameters(const ModelConfig& config);

// The one that context.config.mechanism names. Throws UserError when there is none of that name.
std::unique_ptr<AttentionMechanism> make_mechanism(const MechanismContext& context);

// make_<name>_mechanism() is in sparsity/<name>.cpp.
std::unique_ptr<AttentionMechanism> make_dense_mechanism(const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_adaptive_mechanism(const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_seer_mechanism(const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_sliding_window_mechanism(const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_deepspeed_fixed_mechanism(const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_deepspeed_variable_mechanism(
    const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_deepspeed_bigbird_mechanism(
    const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_deepspeed_longformer_mechanism(
    const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_deepspeed_sliding_mechanism(
    const MechanismContext& context);
std::unique_ptr<AttentionMechanism> make_s2_strided_mechanism(const MechanismContext& context);

}  // namespace filigree
