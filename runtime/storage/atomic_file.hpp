// Small files that are there whole or not at all, and the flushing that makes renames last.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/storage/file_system.hpp"

namespace filigree {

// Replaces `path`: temporary file beside it, fsync, rename, fsync of the folder. After a crash the
// old file or the new one is there, never a part. Throws UserError naming the file; the temporary
// file is then gone.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                           FileSystem& system = posix_file_system());

// The whole file. Throws UserError naming it when it cannot be read or is larger than `most_bytes`.
std::string read_file(const std::filesystem::path& path,
                      std::int64_t most_bytes = std::int64_t{1} << 30);

// Makes the names in a folder (files created, renamed, removed) last through a power cut.
void sync_folder(const std::filesystem::path& folder, FileSystem& system = posix_file_system());

// Renames and syncs the folder that holds `to`. `to` may be a file, which is replaced, or an empty
// folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to,
                    FileSystem& system = posix_file_system());

}  // namespace filigree
