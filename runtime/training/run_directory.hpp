// The folder of one run:
//   config.cfg        the resolved configuration
//   metrics.jsonl     see metrics.hpp
//   tokenizer.model   so that a run can be used without its data
//   logs/             one file per rank
//   checkpoints/      see checkpoint/checkpoint.hpp; whoever writes there holds the file lock in it
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace filigree {

class RunDirectory {
 public:
  // Makes the folder and its subfolders. Throws UserError when it exists (unless it is an empty
  // folder) or cannot be made.
  static RunDirectory create(const std::filesystem::path& folder);
  // Throws UserError when it is no run: it must hold config.cfg.
  static RunDirectory open(const std::filesystem::path& folder);

  // The newest complete checkpoint, every byte of which has been verified. Newer ones that are
  // damaged are passed over: `warn` gets a line for each. Throws UserError when there is none.
  // Where several ranks load one model, one of them asks and tells the others: a run
  // that goes on may save another between two looks.
  std::filesystem::path verified_checkpoint(
      const std::function<void(const std::string&)>& warn) const;
  // The checkpoint of a step. Throws UserError that names those that there are.
  std::filesystem::path checkpoint_of(std::int64_t step) const;

  std::filesystem::path folder() const { return folder_; }
  std::filesystem::path config_file() const { return folder_ / "config.cfg"; }
  std::filesystem::path metrics_file() const { return folder_ / "metrics.jsonl"; }
  std::filesystem::path tokenizer_file() const { return folder_ / "tokenizer.model"; }
  std::filesystem::path logs() const { return folder_ / "logs"; }
  std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }

 private:
  explicit RunDirectory(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
};

}  // namespace filigree
