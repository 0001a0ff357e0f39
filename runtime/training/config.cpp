#include "runtime/training/config.hpp"

#include "kernels/registry.hpp"
#include "layers/sparsity/registry.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

void check_forced_kernel(const std::string& op, const std::string& implementation) {
  const auto known = kernel_table().names();
  std::vector<std::string> ops;
  for (const auto& [name, implementations] : known) ops.push_back(name);
  const auto found = known.find(op);
  if (found == known.end()) {
    const std::string near = nearest_name(op, ops);
    throw UserError(str("train.kernels names the op '", op, "', which does not exist",
                        near.empty() ? "" : str(" (did you mean '", near, "'?)"),
                        "; `filigree bench kernels` lists them"));
  }
  std::string allowed;
  for (const std::string& name : found->second) {
    if (name == implementation) return;
    allowed += (allowed.empty() ? "" : ", ") + name;
  }
  throw UserError(str("train.kernels asks for implementation '", implementation, "' of ", op,
                      "; there is: ", allowed));
}

}  // namespace

void check_trained_part(const RunConfig& config) {
  const std::string& only = config.train.only;
  if (only != "all" && only != "gates")
    throw UserError(str("train.only = ", only, ": allowed: all, gates"));
  if (only == "all") return;
  const std::string& mechanism = config.model.mechanism;
  if (!mechanism_learns(mechanism))
    throw UserError(str("train.only = gates: model.mechanism = ", mechanism,
                        " has no gate to train; choose one that has, or train.only = all"));
  const SparsityConfig& sparsity = config.model.sparsity;
  const bool chooses = sparsity.selection != "density" || sparsity.density < 1.0;
  if (!sparsity.distills() && !(sparsity.learns_end_to_end() && (chooses || sparsity.head_gate)))
    throw UserError(str("train.only = gates: with sparsity.learn = ", sparsity.learn,
                        chooses ? "" : " and sparsity.density = 1",
                        " nothing teaches the gates; choose sparsity.learn = distill"));
}

std::map<std::string, std::string, std::less<>> parse_forced_kernels(const std::string& text) {
  std::map<std::string, std::string, std::less<>> result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos)
      throw UserError(
          str("train.kernels has '", item, "'; expected op=implementation, separated by commas"));
    const std::string op = item.substr(0, equals), implementation = item.substr(equals + 1);
    if (op != "*") check_forced_kernel(op, implementation);
    result[op] = implementation;
    begin = end + 1;
  }
  return result;
}

}  // namespace filigree
