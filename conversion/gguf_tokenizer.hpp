// A tokenizer in the words of GGUF, tokenizer.ggml.*.
#pragma once

#include <cstdint>

#include "conversion/gguf.hpp"
#include "data_pipeline/tokenizer.hpp"

namespace filigree {

// SentencePiece BPE (model "llama") and byte-level BPE (model "gpt2"). vocabulary: rows of the
// embedding; those that no token has get unused ones. Throws UserError for other tokenizers, and
// for byte-level ones whose words llama.cpp would cut in another way: it knows expressions by name.
void describe_tokenizer(const Tokenizer& tokenizer, std::int64_t vocabulary, GgufWriter& writer);

}  // namespace filigree
