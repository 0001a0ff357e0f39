// The folders below a run's checkpoints/: names, publication by rename, retention.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace filigree {

// step_00000200: published. step_00000200.tmp.<nonce>: being written, being removed, or left by a
// killed save.
std::string step_folder_name(std::int64_t step);
std::optional<std::int64_t> step_of_folder_name(const std::string& name);
std::string temporary_folder_name(std::int64_t step, const std::string& nonce);

// Published steps below `folder`, newest first; none when it does not exist. Their content is not
// looked at.
std::vector<std::int64_t> published_steps(const std::filesystem::path& folder);

// Renames the complete `temporary` to `target`, atomically and durably. A folder that already has
// that name (a damaged checkpoint that training has passed again) changes places with it and is
// left under the temporary name. Throws UserError; `target` is then as it was.
void publish(const std::filesystem::path& temporary, const std::filesystem::path& target);

// Removes all but `keep` checkpoints, counting `just_written` and then the newest others that can
// be opened, and the leftovers of killed saves. What cannot be opened is neither counted nor
// touched: it may be of another version. Returns what could not be removed, as warnings.
std::vector<std::string> retire_checkpoints(const std::filesystem::path& folder,
                                            std::int64_t just_written, std::int64_t keep);

}  // namespace filigree
