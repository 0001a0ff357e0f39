#include "runtime/storage/file_lock.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "tests/harness/no_warning.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree {
namespace {

using testing::no_warning;

TEST(FileLock, IsHeldByOneAndNamesIt) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "lock";
  const auto attempt = [&] {
    return testing::user_error([&] { FileLock(file, "the run", no_warning); });
  };
  std::optional<FileLock> first;
  first.emplace(file, "the run", no_warning);
  const std::string error = attempt();
  EXPECT_EQ(error.rfind(str("the run is in use by process ", ::getpid(), " on "), 0), 0u) << error;
  first.reset();
  EXPECT_EQ(attempt(), testing::kNoUserError);
}

TEST(FileLock, EndsWithItsProcessHoweverThatEnds) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "lock";
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(file, "the run", [](const std::string&) {});
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  FileLock(file, "the run", no_warning);
}

TEST(FileLock, WhereThereCanBeNoneAWarningSaysSo) {
  std::string warned;
  FileLock("/nowhere/lock", "the run", [&](const std::string& text) { warned = text; });
  EXPECT_NE(warned.find("/nowhere/lock: No such file or directory"), std::string::npos) << warned;
}

}  // namespace
}  // namespace filigree
