#include "launch/commands/data_inspect.hpp"

#include <iomanip>
#include <sstream>

#include "data_pipeline/inspect.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

std::string table(const ShardFolderReport& report, const std::string& folder) {
  std::ostringstream out;
  out << folder << ": vocabulary " << count_text(report.manifest.vocabulary) << ", tokenizer "
      << report.manifest.tokenizer_hash << "\n\n";
  const auto row = [&](const auto& name, const auto& documents, const auto& tokens,
                       const auto& bytes, const auto& state) {
    out << std::left << std::setw(24) << name << std::right << std::setw(14) << documents
        << std::setw(18) << tokens << std::setw(14) << bytes << "  " << state << "\n";
  };
  row("shard", "documents", "tokens", "size", "state");
  for (const ShardCheck& check : report.shards) {
    row(check.entry.file, count_text(check.entry.documents), count_text(check.entry.tokens),
        bytes_text(check.entry.bytes), check.problem.empty() ? "ok" : "DAMAGED");
  }
  for (const auto& [name, split] : report.manifest.splits) {
    row("total " + name, count_text(split.documents), count_text(split.tokens),
        bytes_text(split.text_bytes), "of text");
  }
  for (const auto& [name, text] : report.first_text) {
    out << "\n" << name << " begins:\n" << text << "\n";
  }
  return out.str();
}

nlohmann::json as_json(const ShardFolderReport& report) {
  nlohmann::json shards = nlohmann::json::array(), splits = nlohmann::json::object();
  for (const ShardCheck& check : report.shards) {
    nlohmann::json shard{{"split", check.split},
                         {"file", check.entry.file},
                         {"documents", check.entry.documents},
                         {"tokens", check.entry.tokens},
                         {"bytes", check.entry.bytes},
                         {"hash", check.entry.hash},
                         {"intact", check.problem.empty()}};
    if (!check.problem.empty()) shard["problem"] = check.problem;
    shards.push_back(std::move(shard));
  }
  for (const auto& [name, split] : report.manifest.splits) {
    splits[name] = {{"documents", split.documents},
                    {"tokens", split.tokens},
                    {"text_bytes", split.text_bytes},
                    {"hash", report.manifest.split_hash(name)}};
    const auto text = report.first_text.find(name);
    if (text != report.first_text.end()) splits[name]["first_text"] = text->second;
  }
  return {{"vocabulary", report.manifest.vocabulary},
          {"tokenizer_hash", report.manifest.tokenizer_hash},
          {"intact", report.intact()},
          {"splits", splits},
          {"shards", shards},
          {"options", report.manifest.options}};
}

int run(const std::vector<std::string>& arguments) {
  std::string folder;
  std::int64_t text_tokens = 64;
  bool json = false;
  Options options(data_inspect_command());
  options.add_positional(
      "folder", &folder,
      {.description = "folder of token shards", .unit = "DIR", .required = true});
  options.add("tokens", &text_tokens,
              {.description = "how many tokens of each split to show as text",
               .unit = "tokens",
               .min = 0,
               .max = 1 << 20});
  options.add("json", &json, {.description = "print one JSON object instead of the table"});
  if (!options.parse(arguments)) return exit_code::kOk;

  ShardFolderReport report;
  {
    ProgressLine line;
    report = inspect_shards(folder, text_tokens, [&](std::int64_t done, std::int64_t total) {
      line.update("checking", done, total);
    });
  }
  print_once(json ? as_json(report).dump(2) + "\n" : table(report, folder));
  std::string problems;
  for (const ShardCheck& check : report.shards) {
    if (!check.problem.empty()) problems += (problems.empty() ? "" : "\n") + check.problem;
  }
  if (!problems.empty()) throw UserError(problems);
  return exit_code::kOk;
}

}  // namespace

Command data_inspect_command() {
  return {"data inspect", "show a folder of token shards and check every byte of it",
          "filigree data inspect shards", run};
}

}  // namespace filigree
