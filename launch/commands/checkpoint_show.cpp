#include "launch/commands/checkpoint_show.hpp"

#include <iomanip>
#include <map>
#include <sstream>

#include "checkpoint/manifest.hpp"
#include "launch/commands/checkpoint_paths.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// "parameters", "optimizer/m": what a tensor's name has before the part that names the parameter.
std::string group_of(const std::string& name) { return name.substr(0, name.rfind('/')); }

struct Group {
  std::size_t tensors = 0;
  std::int64_t values = 0, bytes = 0;
};

std::map<std::string, Group> groups_of(const CheckpointManifest& manifest) {
  std::map<std::string, Group> groups;
  for (const auto& [name, tensor] : manifest.tensors) {
    Group& group = groups[group_of(name)];
    ++group.tensors;
    group.values += tensor.global_shape.numel();
    group.bytes += tensor.global_shape.numel() * size_of(tensor.dtype);
  }
  return groups;
}

void list_tensors(const CheckpointManifest& manifest, std::ostringstream& out) {
  out << "\n";
  for (const auto& [name, tensor] : manifest.tensors) {
    out << name << "  " << name_of(tensor.dtype) << tensor.global_shape << "\n";
    for (const SavedSlice& slice : tensor.slices)
      out << "    " << manifest.files[slice.file].name << "  " << slice.region.name() << "  "
          << slice.hash << "\n";
  }
}

std::string text_of(const CheckpointReader& reader, bool tensors, bool config) {
  const CheckpointManifest& manifest = reader.manifest();
  std::ostringstream out;
  out << reader.folder().string() << "\n  step     " << manifest.info.step << "\n  layout   "
      << manifest.info.mesh.name() << ", " << manifest.info.mesh.world() << " ranks\n  size     "
      << bytes_text(reader.bytes()) << " in " << manifest.files.size() << " files\n  config   "
      << manifest.info.config_hash << "\n  id       " << manifest.id << "\n  state    "
      << manifest.info.state.dump() << "\n";
  for (const auto& [name, group] : groups_of(manifest))
    out << "  " << std::left << std::setw(16) << name << std::right << std::setw(6) << group.tensors
        << " tensors  " << count_text(group.values) << " values  " << bytes_text(group.bytes)
        << "\n";
  if (config) out << "\n" << manifest.info.config.value("text", manifest.info.config.dump(2));
  if (tensors) list_tensors(manifest, out);
  return std::move(out).str();
}

int run(const std::vector<std::string>& arguments) {
  std::string path;
  bool tensors = false, config = false, json = false;
  Options options(checkpoint_show_command());
  options.add_positional("checkpoint", &path,
                         {.description = "a checkpoint's folder, or a run: its newest",
                          .unit = "CHECKPOINT",
                          .required = true});
  options.add("tensors", &tensors, {.description = "list every tensor and where its slices lie"});
  options.add("config", &config, {.description = "print the configuration it was saved with"});
  options.add("json", &json, {.description = "print the whole manifest as JSON instead"});
  if (!options.parse(arguments)) return exit_code::kOk;
  const CheckpointReader reader(one_checkpoint(path));
  print_once(json ? to_text(reader.manifest()) : text_of(reader, tensors, config));
  return exit_code::kOk;
}

}  // namespace

Command checkpoint_show_command() {
  return {"checkpoint show", "show what a checkpoint holds",
          "filigree checkpoint show runs/lm_7m --tensors", run};
}

}  // namespace filigree
