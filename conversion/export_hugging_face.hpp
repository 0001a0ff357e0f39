// A run as a folder that `transformers` loads.
#pragma once

#include <cstdint>
#include <filesystem>

#include "conversion/model_description.hpp"
#include "conversion/run_source.hpp"
#include "conversion/weight_files.hpp"

namespace filigree {

struct HuggingFaceExportOptions {
  DType dtype = DType::f32;                       // f32, bf16 or f16
  std::int64_t most_shard_bytes = 5'000'000'000;  // of one safetensors file
  bool gates_separate = false;  // the model as a dense one, its gates as gates.safetensors
  bool verify = false;          // reload and compare what was written
  bool overwrite = false;
  ConversionProgress progress = {};
};

struct HuggingFaceExport {
  Architecture architecture = Architecture::llama;
  int tensors = 0, files = 0;  // of the weights
  int gate_tensors = 0;        // in gates.safetensors
  std::int64_t bytes = 0;
};

// Writes `folder`, which appears whole or not at all: config.json, generation_config.json, the
// tokenizer's files, the weights, and for a model that no stock class computes the bundled Python
// files, which choose the blocks that ours do. Throws UserError when the folder exists, or the run
// has no gates to separate.
HuggingFaceExport export_hugging_face(const RunSource& run, const std::filesystem::path& folder,
                                      const HuggingFaceExportOptions& options);

}  // namespace filigree
