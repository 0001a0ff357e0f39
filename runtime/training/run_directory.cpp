#include "runtime/training/run_directory.hpp"

#include <system_error>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/folders.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace fs = std::filesystem;

namespace {

bool is_empty_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error) && fs::is_empty(path, error);
}

void refuse_existing(const RunDirectory& run) {
  std::error_code error;
  if (!fs::exists(run.folder(), error) || is_empty_folder(run.folder())) return;
  std::string what = " exists; choose another --run";
  if (fs::exists(run.config_file(), error))
    what = published_steps(run.checkpoints()).empty()
               ? " exists and has no checkpoint; remove it or choose another --run"
               : what + ", or continue it with --resume " + run.folder().string();
  throw UserError(str("run folder ", run.folder(), what));
}

}  // namespace

RunDirectory RunDirectory::create(const fs::path& folder) {
  if (folder.empty()) throw UserError("run is empty; name the run folder: --run runs/NAME");
  RunDirectory run(folder);
  refuse_existing(run);
  std::error_code error;
  for (const fs::path& part : {run.logs(), run.checkpoints()}) {
    fs::create_directories(part, error);
    if (error)
      throw UserError(str("cannot make run folder ", folder, ": ", error.message(),
                          "; choose a --run that can be written"));
  }
  // A checkpoint that outlives a power cut needs the folders above it.
  sync_folder(folder);
  sync_folder(fs::absolute(folder / "").lexically_normal().parent_path().parent_path());
  return run;
}

RunDirectory RunDirectory::open(const fs::path& folder) {
  RunDirectory run(folder);
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw UserError(
        str("run folder ", folder, " does not exist; give the folder that `filigree train` made"));
  if (!fs::is_regular_file(run.config_file(), error))
    throw UserError(str(folder,
                        " is no run folder: it has no config.cfg; give the folder that "
                        "`filigree train` made"));
  return run;
}

fs::path RunDirectory::verified_checkpoint(
    const std::function<void(const std::string&)>& warn) const {
  std::vector<std::string> passed_over;
  const auto newest = newest_checkpoint(
      checkpoints(), [&](const std::string& text) { passed_over.push_back(text); });
  if (!newest) {
    std::string why;
    for (const std::string& text : passed_over) why += "; " + text;
    throw UserError(str("run ", folder_.string(), " has no complete checkpoint", why,
                        "; let `filigree train` reach its first one"));
  }
  for (const std::string& text : passed_over)
    warn(str(text, "; taking ", newest->filename().string(), " instead"));
  return *newest;
}

fs::path RunDirectory::checkpoint_of(std::int64_t step) const {
  const fs::path path = checkpoints() / step_folder_name(step);
  std::error_code error;
  if (fs::is_directory(path, error)) return path;
  const std::string saved = list_of_steps(checkpoints());
  throw UserError(str("run ", folder_.string(), " has no checkpoint of step ", step,
                      saved.empty() ? "" : "; saved are steps " + saved));
}

}  // namespace filigree
