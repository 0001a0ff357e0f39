// JSON of a file that may come from a stranger.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "runtime/storage/file_problem.hpp"

namespace filigree {

// Throws UserError where something is nested so deep that code which walks over it, calling itself,
// would run out of stack: copying a value does, and printing it. `depth` is that of nlohmann's
// callbacks.
void require_shallow(int depth, const FileProblem& problem);

// Throws UserError for what is no JSON, larger than any tokenizer or nested too deep.
nlohmann::json parse_json(std::string_view bytes, const FileProblem& problem);

}  // namespace filigree
