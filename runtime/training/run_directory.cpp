#include "runtime/training/run_directory.hpp"

#include <system_error>

#include "runtime/core/error.hpp"

namespace filigree {
namespace fs = std::filesystem;

RunDirectory RunDirectory::create(const fs::path& folder) {
  if (folder.empty()) throw UserError("run is empty; name the run folder: --run runs/NAME");
  std::error_code error;
  if (fs::exists(folder, error) &&
      !(fs::is_directory(folder, error) && fs::is_empty(folder, error)))
    throw UserError(str("run folder ", folder,
                        " exists; choose another --run, or continue it with --resume ",
                        folder.string()));
  RunDirectory run(folder);
  for (const fs::path& part : {run.logs(), run.checkpoints()}) {
    fs::create_directories(part, error);
    if (error)
      throw UserError(str("cannot make run folder ", folder, ": ", error.message(),
                          "; choose a --run that can be written"));
  }
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

}  // namespace filigree
