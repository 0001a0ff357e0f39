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
std::unique_ptr<AttentionMechanism> make_mechanism(const std::string& name);

std::unique_ptr<AttentionMechanism> make_dense_mechanism();  // sparsity/dense.cpp

}  // namespace filigree
