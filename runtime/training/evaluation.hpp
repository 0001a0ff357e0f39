// How well a model predicts a text: loss, perplexity, bits per byte, and the same for the simplest
// model there is.
#pragma once

#include <cstdint>
#include <vector>

#include "data_pipeline/token_dataset.hpp"
#include "layers/language_model.hpp"
#include "parallel/mesh.hpp"

namespace filigree {

struct EvaluationOptions {
  std::int64_t length = 0;           // tokens of a window; the model's sequence length
  std::int64_t rows = 1;             // windows evaluated at once on a rank
  std::int64_t max_tokens = 0;       // stop after about so many; 0: the whole split
  std::int64_t measured_layers = 0;  // all layers of the model, to ask attention what it did; or 0
};

struct EvaluationResult {
  double loss = 0;           // mean of -log p(token), nats
  double perplexity = 0;     // exp(loss)
  double bits_per_byte = 0;  // loss in bits times the split's tokens per byte of UTF-8 text
  std::int64_t tokens = 0;   // scored
  std::vector<LayerStatistics> layers;  // one per measured layer, over all windows
};

// Token i of the split is predicted from the tokens before it in its window: windows of `length` do
// not overlap, the last may be shorter, and every token but the split's first is scored once.
// Windows are split over the data axis. Throws UserError when the split has fewer than two tokens.
// Collective over the mesh; every rank gets the same bits.
EvaluationResult evaluate(const LanguageModel& model, const TokenDataset& dataset, const Mesh& mesh,
                          const EvaluationOptions& options, ExecutionContext& context);

// The same tokens under p(token) = (count of it in `train` + 1) / (tokens of `train` + V): what a
// model reaches that knows how often each token occurs and nothing of its context. Reading is split
// over the world. Collective.
EvaluationResult evaluate_unigram(const TokenDataset& train, const TokenDataset& validation,
                                  Communicator& world, const EvaluationOptions& options);

}  // namespace filigree
