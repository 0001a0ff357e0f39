#include "launch/commands/checkpoint_list.hpp"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include <nlohmann/json.hpp>

#include "checkpoint/folders.hpp"
#include "launch/commands/checkpoint_paths.hpp"
#include "launch/commands/data_progress.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

struct Listed {
  std::string name, layout, problem;
  std::int64_t step = 0, bytes = 0;
  std::size_t tensors = 0;
};

Listed look_at(const std::filesystem::path& folder) {
  Listed listed;
  listed.name = folder.filename();
  try {
    const CheckpointReader reader(folder);
    listed.layout = reader.info().mesh.name();
    listed.step = reader.info().step;
    listed.bytes = reader.bytes();
    listed.tensors = reader.names().size();
  } catch (const UserError& error) {
    listed.problem = error.what();
  }
  return listed;
}

std::string table(const std::vector<Listed>& all) {
  std::ostringstream out;
  std::size_t longest = 0;
  for (const Listed& one : all) longest = std::max(longest, one.name.size());
  const int name_width = static_cast<int>(longest) + 3;
  const auto row = [&](const auto& name, const auto& layout, const auto& tensors, const auto& size,
                       const auto& state) {
    out << std::left << std::setw(name_width) << name << std::setw(12) << layout << std::right
        << std::setw(8) << tensors << std::setw(12) << size << "  " << state << "\n";
  };
  row("checkpoint", "layout", "tensors", "size", "state");
  for (const Listed& one : all) {
    if (one.problem.empty()) {
      row(one.name, one.layout, one.tensors, bytes_text(one.bytes), "complete");
    } else {
      row(one.name, "-", "-", "-", "NOT USABLE: " + one.problem);
    }
  }
  out << "Files and sizes were looked at; every byte is read by: filigree checkpoint verify\n";
  return std::move(out).str();
}

nlohmann::ordered_json as_json(const Listed& one) {
  nlohmann::ordered_json json{{"name", one.name}, {"complete", one.problem.empty()}};
  if (one.problem.empty()) {
    json.update({{"step", one.step},
                 {"layout", one.layout},
                 {"tensors", one.tensors},
                 {"bytes", one.bytes}});
  } else {
    json["problem"] = one.problem;
  }
  return json;
}

int run(const std::vector<std::string>& arguments) {
  std::string path;
  bool json = false;
  Options options(checkpoint_list_command());
  options.add_positional("run", &path,
                         {.description = "run directory, or a folder of checkpoints",
                          .unit = "RUN",
                          .required = true});
  options.add("json", &json, {.description = "print one JSON list instead of the table"});
  if (!options.parse(arguments)) return exit_code::kOk;
  std::vector<Listed> all;
  const auto folders = all_checkpoints(path);
  for (const auto& folder : folders) all.push_back(look_at(folder));
  for (const auto& leftover : leftovers_in(folders.front().parent_path()))
    all.push_back(
        {.name = leftover.filename(), .problem = "not finished: a save under way or cut short"});
  if (!json) {
    print_once(table(all));
    return exit_code::kOk;
  }
  auto list = nlohmann::ordered_json::array();
  for (const Listed& one : all) list.push_back(as_json(one));
  print_once(list.dump(2) + "\n");
  return exit_code::kOk;
}

}  // namespace

Command checkpoint_list_command() {
  return {"checkpoint list", "list the checkpoints of a run", "filigree checkpoint list runs/lm_7m",
          run};
}

}  // namespace filigree
