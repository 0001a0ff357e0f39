#include "runtime/storage/untrusted_json.hpp"

#include <cstdint>

namespace filigree {

using nlohmann::json;

void require_shallow(int depth, const FileProblem& problem) {
  constexpr int kDeepest = 64;
  problem.require(depth <= kDeepest, "it is nested more than ", kDeepest, " deep");
}

json parse_json(std::string_view bytes, const FileProblem& problem) {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 27;
  problem.require(std::ssize(bytes) <= kMostBytes, "it has ", bytes.size(), " bytes, at most ",
                  kMostBytes, " are read");
  try {
    return json::parse(bytes, [&](int depth, json::parse_event_t, const json&) {
      require_shallow(depth, problem);
      return true;
    });
  } catch (const json::exception& error) {
    problem.fail("it is damaged or no JSON: ", error.what());
  }
}

}  // namespace filigree
