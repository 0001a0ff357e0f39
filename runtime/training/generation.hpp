// Text from a trained model, and the log-probabilities it gives to a text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "layers/language_model.hpp"
#include "runtime/training/sampling.hpp"

namespace filigree {

// Continues `prompt` (at least one token) by at most `max_tokens` with a key/value cache; stops
// before `end_token` and where the model's sequence length is reached. `on_token` is called with
// each new token. Throws UserError when the prompt fills the sequence.
std::vector<std::int32_t> generate(const LanguageModel& model, std::span<const std::int32_t> prompt,
                                   std::int64_t max_tokens, std::int32_t end_token,
                                   const SamplingOptions& sampling, ExecutionContext& context,
                                   const std::function<void(std::int32_t)>& on_token = {});

// log p of each token given `start_token` and the tokens before it. Texts longer than the model's
// sequence length S go through windows of S that overlap by half: the first S tokens are
// conditioned on everything before them, each later one on at least the S/2 tokens before it.
std::vector<double> score_tokens(const LanguageModel& model, std::span<const std::int32_t> tokens,
                                 std::int32_t start_token, ExecutionContext& context);

}  // namespace filigree
