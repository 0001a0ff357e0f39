// How signals remove it is seen from outside: tests/system/interruption_test.py.
#include "runtime/storage/temporary_path.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>

#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/output_folder.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

using Handler = void (*)(int);

Handler handler_of(int signal) {
  struct sigaction action {};
  ::sigaction(signal, nullptr, &action);
  return action.sa_handler;
}

TEST(TemporaryPath, GoesUnlessItIsPublished) {
  const testing::TemporaryFolder folder;
  const fs::path target = folder.path() / "target";
  fs::path path;
  {
    const TemporaryPath temporary(target);
    path = temporary.path();
    write_file_atomically(path, "half");
  }
  EXPECT_FALSE(fs::exists(path));

  TemporaryPath temporary(target);
  write_file_atomically(path, "whole");
  EXPECT_THROW(temporary.publish([] { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_TRUE(fs::exists(path));
  temporary.publish([&] { fs::rename(path, target); });
  EXPECT_EQ(read_file(target), "whole");
}

TEST(TemporaryPath, HandlesSignalsWhileOneIsAlive) {
  const testing::TemporaryFolder folder;
  const Handler before = handler_of(SIGHUP);
  std::signal(SIGHUP, SIG_IGN);
  {
    TemporaryPath first(folder.path() / "first");
    const TemporaryPath second(folder.path() / "second");
    first.publish([] {});
    EXPECT_NE(handler_of(SIGINT), SIG_DFL);
    EXPECT_NE(handler_of(SIGTERM), SIG_DFL);
    EXPECT_EQ(handler_of(SIGHUP), SIG_IGN);
  }
  for (const int signal : {SIGINT, SIGTERM}) EXPECT_EQ(handler_of(signal), SIG_DFL) << signal;
  EXPECT_EQ(handler_of(SIGHUP), SIG_IGN);
  std::signal(SIGHUP, before);
}

TEST(OutputFolder, ReplacesWhatHasTheMarkAndNothingElse) {
  const testing::TemporaryFolder folder;
  const fs::path target = folder.path() / "made";
  for (const char* content : {"first", "second"}) {
    OutputFolder output(target, true, "mark");
    write_file_atomically(output.path() / "mark", content);
    output.publish();
    EXPECT_EQ(read_file(target / "mark"), content);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);

  fs::rename(target / "mark", target / "precious");
  const std::string error = testing::user_error([&] { OutputFolder(target, true, "mark"); });
  EXPECT_NE(error.find("has no mark; remove it yourself"), std::string::npos) << error;
  EXPECT_EQ(read_file(target / "precious"), "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace filigree
