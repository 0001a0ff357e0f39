#include "launch/commands/doctor.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr double kTimeoutSeconds = 60;

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

std::string as_text(const std::vector<Finding>& findings) {
  std::size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.name.size());
  std::string text;
  for (const Finding& finding : findings)
    text += str(padded(finding.name, width), "  ", padded(name_of(finding.status), 7), "  ",
                finding.found, finding.hint.empty() ? "" : "; ", finding.hint, "\n");
  return text;
}

std::string as_json(const std::vector<Finding>& findings, bool healthy) {
  auto rows = nlohmann::ordered_json::array();
  for (const Finding& finding : findings)
    rows.push_back({{"name", finding.name},
                    {"status", name_of(finding.status)},
                    {"found", finding.found},
                    {"hint", finding.hint}});
  return nlohmann::ordered_json{{"healthy", healthy}, {"findings", rows}}.dump(2) + "\n";
}

int run(const std::vector<std::string>& words) {
  bool json = false;
  Options options(doctor_command());
  options.add("json", &json, {.description = "print one JSON object instead of a table"});
  if (!options.parse(words)) return exit_code::kOk;
  return run_in_world(kTimeoutSeconds, [&](const RankEnvironment& environment) {
    const std::vector<Finding> findings = examine(environment);
    const bool healthy = std::ranges::none_of(
        findings, [](const Finding& finding) { return finding.status == Finding::Status::broken; });
    print_once(json ? as_json(findings, healthy) : as_text(findings));
    return healthy ? exit_code::kOk : exit_code::kUserError;
  });
}

}  // namespace

const char* name_of(Finding::Status status) {
  switch (status) {
    case Finding::Status::ok:
      return "ok";
    case Finding::Status::missing:
      return "missing";
    case Finding::Status::broken:
      return "broken";
  }
  FILIGREE_CHECK(false, "a status that has no name");
}

Command doctor_command() {
  return {"doctor", "say what was built and what this machine offers: libraries, driver, GPUs",
          "mpirun -np 2 filigree doctor", run};
}

}  // namespace filigree
