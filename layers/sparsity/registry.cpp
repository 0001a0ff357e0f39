#include "layers/sparsity/registry.hpp"

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<AttentionMechanism> (*make)();
};

constexpr Entry kMechanisms[] = {
    {"dense", make_dense_mechanism},
};

}  // namespace

std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kMechanisms) names.emplace_back(entry.name);
  return names;
}

std::string unknown_mechanism(const std::string& name) {
  const std::vector<std::string> names = mechanism_names();
  std::string allowed;
  for (const std::string& known : names) {
    if (known == name) return "";
    allowed += (allowed.empty() ? "" : ", ") + known;
  }
  const std::string nearest = nearest_name(name, names);
  return str("no such mechanism; allowed: ", allowed,
             nearest.empty() ? "" : "; did you mean '" + nearest + "'?");
}

std::unique_ptr<AttentionMechanism> make_mechanism(const std::string& name) {
  for (const Entry& entry : kMechanisms)
    if (name == entry.name) return entry.make();
  throw UserError(str("model.mechanism = ", name, ": ", unknown_mechanism(name)));
}

}  // namespace filigree
