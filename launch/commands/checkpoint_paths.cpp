#include "launch/commands/checkpoint_paths.hpp"

#include "checkpoint/folders.hpp"
#include "checkpoint/manifest.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

bool is_checkpoint(const fs::path& path) {
  return fs::exists(path / kManifestName) || step_of_folder_name(path.filename().string());
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
