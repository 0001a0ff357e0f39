#include "runtime/core/log.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <thread>
#include <vector>

namespace filigree {
namespace {

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              str("filigree_log_", ::getpid(), "_",
                  testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::vector<std::string> lines(int rank) const {
    std::ifstream file(Log::file_name(folder_, rank));
    std::vector<std::string> result;
    for (std::string line; std::getline(file, line);) result.push_back(line);
    return result;
  }
  std::filesystem::path folder_;
};

TEST_F(LogTest, EveryRankWritesItsOwnFileWithPrefixAndLevel) {
  const Log log({.rank = 5, .prefix = "[rank 5 data 1 tensor 1]", .directory = folder_});
  log.info("step ", 12, " loss ", 2.5);
  log.warning("100% {} %v of it\nand more");
  // Read while the log is open: nothing waits in a buffer.
  const auto found = lines(5);
  ASSERT_EQ(found.size(), 3u);
  const std::string time = R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} )";
  EXPECT_TRUE(std::regex_match(
      found[0], std::regex(time + R"(info \[rank 5 data 1 tensor 1\] step 12 loss 2\.5)")))
      << found[0];
  EXPECT_TRUE(std::regex_match(
      found[1], std::regex(time + R"(warning \[rank 5 data 1 tensor 1\] 100% \{\} %v of it)")))
      << found[1];
  EXPECT_TRUE(std::regex_match(found[2],
                               std::regex(time + R"(warning \[rank 5 data 1 tensor 1\] and more)")))
      << found[2];
  EXPECT_EQ(Log::file_name(folder_, 5).filename(), "rank_00005.log");
}

TEST_F(LogTest, OnlyRankZeroHasAConsole) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const Log first({.rank = 0, .prefix = "[rank 0]", .directory = folder_});
  const Log second({.rank = 1, .prefix = "[rank 1]", .directory = folder_});
  first.debug("hidden on the console");
  first.info("plain");
  first.warning("careful");
  second.info("silent");
  second.error("silent");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "plain\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "filigree: warning: careful\n");
  EXPECT_EQ(lines(0).size(), 3u);
  EXPECT_EQ(lines(1).size(), 2u);
}

TEST_F(LogTest, LevelsFilterEachSink) {
  testing::internal::CaptureStdout();
  const Log log(
      {.directory = folder_, .console_level = LogLevel::warning, .file_level = LogLevel::info});
  EXPECT_FALSE(log.enabled(LogLevel::debug));
  EXPECT_TRUE(log.enabled(LogLevel::info));
  log.debug("nowhere");
  log.info("file only");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(lines(0).size(), 1u);
}

TEST_F(LogTest, AppendsToAnExistingFile) {
  Log({.rank = 2, .directory = folder_}).info("first run");
  Log({.rank = 2, .directory = folder_}).info("resumed");
  EXPECT_EQ(lines(2).size(), 2u);
}

TEST_F(LogTest, LinesOfSeveralThreadsStayWhole) {
  const Log log({.rank = 1, .directory = folder_});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) log.info("begin ", std::string(200, 'x'), " end");
    });
  for (auto& thread : threads) thread.join();
  const auto found = lines(1);
  ASSERT_EQ(found.size(), 200u);
  for (const std::string& line : found)
    EXPECT_TRUE(line.ends_with("info begin " + std::string(200, 'x') + " end")) << line;
}

TEST_F(LogTest, ADirectoryThatCannotBeMadeIsAUserError) {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ / "file") << "x";
  EXPECT_THROW(Log({.rank = 1, .directory = folder_ / "file" / "logs"}), UserError);
}

}  // namespace
}  // namespace filigree
