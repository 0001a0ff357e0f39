// A Hugging Face model folder of the Llama family as a run: what `train --train.init_from`, `eval`,
// `score` and `generate` take, on any layout.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "conversion/weight_files.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

struct HuggingFaceImportOptions {
  // A SentencePiece model or a byte-level tokenizer.json; empty: the folder's tokenizer.model, or
  // where it has none its tokenizer.json.
  std::filesystem::path tokenizer;
  std::int64_t sequence = 0;  // longest sequence of the run; 0: that of the model
  bool overwrite = false;
  ConversionProgress progress = {};
};

struct HuggingFaceImport {
  RunConfig config;
  std::int64_t tensors = 0;
  bool prefix_dropped = false;  // the tokenizer put a space before every text, which ours does not
};

// The text form of a configuration, and its hash.
struct ConfigText {
  std::string text, hash;
};

// Writes run folder `run`, which appears whole or not at all: config.cfg, tokenizer.model and the
// checkpoint of step 0, weights in f32. Throws UserError naming what Filigree does not compute, a
// tensor that is missing, too much or of another shape, or a folder without a tokenizer that
// Tokenizer takes.
HuggingFaceImport import_hugging_face(const std::filesystem::path& folder,
                                      const std::filesystem::path& run,
                                      const HuggingFaceImportOptions& options,
                                      const std::function<ConfigText(const RunConfig&)>& text_of);

}  // namespace filigree
