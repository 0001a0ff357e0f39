// What the checkpoint commands take for a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace filigree {

// The checkpoints/ of a run directory, or the folder itself where it holds checkpoints. Throws
// UserError when there is none, or the path names one checkpoint.
std::filesystem::path checkpoints_folder(const std::string& path);

// A checkpoint's folder as it is; of a run, or a folder of checkpoints, the newest that is
// published. Its bytes are not looked at. Throws UserError when there is none.
std::filesystem::path one_checkpoint(const std::string& path);

// A checkpoint's folder alone, or all of a run or a folder of checkpoints, oldest first.
std::vector<std::filesystem::path> all_checkpoints(const std::string& path);

}  // namespace filigree
