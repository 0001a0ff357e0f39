// A run as a GGUF file, for llama.cpp and what is built on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conversion/run_source.hpp"
#include "conversion/weight_files.hpp"

namespace filigree {

struct GgufExportOptions {
  DType dtype = DType::f32;  // of matrices: f32, bf16 or f16; vectors stay f32, as llama.cpp wants
  bool verify = false;       // read again and compare what was written
  bool overwrite = false;
  ConversionProgress progress = {};
};

struct GgufExport {
  std::string architecture;  // "llama", "qwen2", "qwen3"
  int tensors = 0;
  std::int64_t bytes = 0;  // of the file
};

// Writes `file` with model and tokenizer, whole or not at all. Dense models only. Throws UserError
// for others, for a tokenizer that describe_tokenizer refuses, and when the file exists.
GgufExport export_gguf(const RunSource& run, const std::filesystem::path& file,
                       const GgufExportOptions& options);

}  // namespace filigree
