#include "launch/commands/checkpoint_paths.hpp"

#include "checkpoint/folders.hpp"
#include "checkpoint/manifest.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

// Whether the path names one checkpoint, which must be there.
bool is_checkpoint(const fs::path& path) {
  const std::string name = path.filename().string();
  if (fs::is_directory(path) && is_temporary_folder_name(name))
    throw UserError(str("'", path.string(),
                        "' is not finished: a save under way, or one that was cut short; the next "
                        "save or `filigree checkpoint prune` removes it"));
  if (fs::exists(path / kManifestName)) return true;
  if (!step_of_folder_name(name)) return false;
  if (fs::is_directory(path)) return true;
  const std::string steps = list_of_steps(path.parent_path());
  throw UserError(str("there is no checkpoint '", path.string(), "'",
                      steps.empty() ? "" : "; saved are steps " + steps));
}

// "runs/mine/" and "runs/mine" are one folder.
fs::path without_slash(const std::string& path) {
  const fs::path given = fs::path(path).lexically_normal();
  return given.has_filename() ? given : given.parent_path();
}

}  // namespace

fs::path checkpoints_folder(const std::string& path) {
  const fs::path given = without_slash(path);
  if (!fs::is_directory(given)) throw UserError(str("there is no folder '", path, "'"));
  if (is_checkpoint(given))
    throw UserError(str("'", path, "' is one checkpoint; give its run, or the folder it lies in"));
  const fs::path folder = fs::is_directory(given / "checkpoints") ? given / "checkpoints" : given;
  if (published_steps(folder).empty())
    throw UserError(str("'", path,
                        "' holds no checkpoints; give a run directory, its checkpoints/, "
                        "or, where one will do, a step_XXXXXXXX folder"));
  return folder;
}

fs::path one_checkpoint(const std::string& path) {
  const fs::path given = without_slash(path);
  if (is_checkpoint(given)) return given;
  const fs::path folder = checkpoints_folder(path);
  return folder / step_folder_name(published_steps(folder).front());
}

std::vector<fs::path> all_checkpoints(const std::string& path) {
  const fs::path given = without_slash(path);
  if (is_checkpoint(given)) return {given};
  const fs::path folder = checkpoints_folder(path);
  std::vector<fs::path> all;
  for (const std::int64_t step : published_steps(folder))
    all.insert(all.begin(), folder / step_folder_name(step));
  return all;
}

}  // namespace filigree
