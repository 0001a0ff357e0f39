// A trained run as what is converted.
#pragma once

#include <cstdint>

#include "checkpoint/checkpoint.hpp"
#include "data_pipeline/tokenizer.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

struct RunSource {
  RunConfig config;
  CheckpointReader reader;  // every byte of which has been verified
  Tokenizer tokenizer;
};

// config.run at `step`, 0 for the newest checkpoint; `warn` is told of damaged newer ones. Throws
// UserError.
RunSource open_run(const RunConfig& config, std::int64_t step,
                   const std::function<void(const std::string&)>& warn);

}  // namespace filigree
