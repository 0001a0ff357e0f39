// The folders below a run's checkpoints/: names, publication by rename.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "runtime/storage/file_lock.hpp"
#include "runtime/storage/file_system.hpp"

namespace filigree {

// step_00000200: published. step_00000200.tmp.<nonce>: being written, being removed, or left by a
// killed save.
std::string step_folder_name(std::int64_t step);
std::optional<std::int64_t> step_of_folder_name(const std::string& name);
std::string temporary_folder_name(std::int64_t step, const std::string& nonce);
bool is_temporary_folder_name(const std::string& name);

// Published steps below `folder`, newest first; none when it does not exist. Their content is not
// looked at.
std::vector<std::int64_t> published_steps(const std::filesystem::path& folder);

// "200, 400", oldest first; empty where there is none.
std::string list_of_steps(const std::filesystem::path& folder);

// Held by whoever saves to or removes from `folder`. Throws UserError where somebody else does;
// `warn` as in FileLock.
std::unique_ptr<FileLock> lock_checkpoints(const std::filesystem::path& folder,
                                           const std::function<void(const std::string&)>& warn);

// Folders of saves that are under way or were cut short, by name.
std::vector<std::filesystem::path> leftovers_in(const std::filesystem::path& folder);

// Renames the complete `temporary` to `target`, atomically and durably. A folder that already has
// that name (a damaged checkpoint that training has passed again) changes places with it and is
// left under the temporary name. Throws UserError; `target` is then as it was.
void publish(const std::filesystem::path& temporary, const std::filesystem::path& target,
             FileSystem& system);

}  // namespace filigree
