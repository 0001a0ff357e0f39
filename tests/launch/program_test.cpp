#include "launch/program.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

int count_arguments(const std::vector<std::string>& arguments) {
  return static_cast<int>(arguments.size()) + 10;
}

const std::vector<Command> kCommands = {
    {"train", "Trains a model.", "filigree train", count_arguments},
    {"data tokenize", "Makes shards.", "filigree data tokenize", count_arguments},
    {"data inspect", "Looks into shards.", "filigree data inspect DIR", count_arguments},
};

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    (void)run_program(arguments, kCommands);
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return "";
}

TEST(Program, RunsCommandsOfOneAndTwoWords) {
  EXPECT_EQ(run_program({"train", "a", "b"}, kCommands), 12);
  EXPECT_EQ(run_program({"data", "inspect", "a"}, kCommands), 11);
}

TEST(Program, OffersTheNearestCommand) {
  EXPECT_EQ(refusal({"trian"}), "unknown command 'trian'; did you mean 'train'?");
  EXPECT_EQ(refusal({"data", "tokenise", "x"}),
            "unknown command 'data tokenise'; did you mean 'data tokenize'?");
  EXPECT_EQ(refusal({"data"}), "'data' needs a second word: data tokenize, data inspect");
  EXPECT_EQ(refusal({"data", "--input", "x"}),
            "'data' needs a second word: data tokenize, data inspect");
  EXPECT_EQ(refusal({"zzzzzzzzzz"}), "unknown command 'zzzzzzzzzz'; `filigree --help` lists them");
}

TEST(Program, HelpListsEveryCommandWithItsSummary) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_program({"--help"}, kCommands), exit_code::kOk);
  const std::string text = testing::internal::GetCapturedStdout();
  EXPECT_NE(text.find("  data tokenize   Makes shards.\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  train           Trains a model.\n"), std::string::npos) << text;
}

TEST(Program, NoArgumentsIsAMistake) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_program({}, kCommands), exit_code::kUserError);
  EXPECT_NE(testing::internal::GetCapturedStdout().find("Usage:"), std::string::npos);
}

TEST(Program, OnlyTheFirstProcessPrintsHelp) {
  ASSERT_EQ(setenv("OMPI_COMM_WORLD_RANK", "3", 1), 0);
  EXPECT_EQ(launcher_rank(), 3);
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_program({"--version"}, kCommands), exit_code::kOk);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  unsetenv("OMPI_COMM_WORLD_RANK");
}

TEST(Registry, NamesAreUniqueAndEveryCommandExplainsItself) {
  ASSERT_FALSE(commands().empty());
  std::set<std::string_view> names;
  for (const Command& command : commands()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_FALSE(command.summary.empty()) << command.name;
    EXPECT_NE(command.example.find(str("filigree ", command.name)), std::string_view::npos)
        << command.example;
    ASSERT_NE(command.run, nullptr) << command.name;
    testing::internal::CaptureStdout();
    EXPECT_EQ(command.run({"--help"}), exit_code::kOk) << command.name;
    const std::string help = testing::internal::GetCapturedStdout();
    EXPECT_NE(help.find(command.example), std::string::npos) << command.name << "\n" << help;
  }
}

// Runs `body` in a catch block and returns the exit code and what was printed.
template <class Exception>
std::pair<int, std::string> reported(const Exception& exception, std::string_view rank = "") {
  testing::internal::CaptureStderr();
  int code = -1;
  try {
    throw exception;
  } catch (...) {
    code = report_current_exception(rank);
  }
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(ErrorReport, GivesEachClassItsExitCode) {
  EXPECT_EQ(reported(UserError("bad path")),
            std::pair(2, std::string("filigree: error: bad path\n")));
  EXPECT_EQ(reported(InternalError("check failed")).first, 70);
  EXPECT_EQ(reported(PeerFailed("rank 3 died", 3)).first, 76);
  EXPECT_EQ(reported(CollectiveTimeout("late")).first, 76);
  EXPECT_EQ(reported(std::runtime_error("other")).first, 70);
  EXPECT_EQ(reported(std::bad_alloc()).first, 2);
}

TEST(ErrorReport, PrefixesEveryLineAndShowsContext) {
  EXPECT_EQ(reported(UserError("one\ntwo"), "[rank 5 data 1]").second,
            "filigree: error: [rank 5 data 1] one\nfiligree: error: [rank 5 data 1] two\n");
  const ErrorContext step("step 12");
  const ErrorContext layer("layer 3 attention");
  EXPECT_EQ(reported(InternalError("check failed: x")).second,
            "filigree: error: check failed: x (in step 12, layer 3 attention)\n");
}

}  // namespace
}  // namespace filigree
