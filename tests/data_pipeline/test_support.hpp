// Scratch folders, small corpora and error messages for the data pipeline's tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "runtime/core/error.hpp"

namespace filigree::test {

// A folder of its own for each test, removed afterwards.
class ScratchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              str("filigree_", info->test_suite_name(), "_", info->name(), "_", ::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::filesystem::path folder_;
};

// The message of the UserError that `body` throws.
template <class Body>
std::string user_error(const Body& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError was thrown";
}

inline ::testing::AssertionResult mentions(const std::string& text,
                                           std::initializer_list<std::string> parts) {
  for (const std::string& part : parts) {
    if (text.find(part) == std::string::npos) {
      return ::testing::AssertionFailure() << "'" << part << "' is not in: " << text;
    }
  }
  return ::testing::AssertionSuccess();
}

// Sentences of a small vocabulary, different for every index.
inline std::string sentence(std::uint64_t index) {
  static constexpr const char* kWords[] = {"river", "mountain", "the",  "of",   "quiet", "light",
                                           "and",   "walked",   "over", "sang", "a",     "stone",
                                           "under", "morning",  "bird", "wind"};
  std::string text;
  std::uint64_t state = index * 0x9E3779B97F4A7C15u + 1;
  for (int word = 0; word < 9; ++word) {
    state ^= state >> 31;
    state *= 0xBF58476D1CE4E5B9u;
    text += kWords[(state >> 40) % 16];
    text += word == 8 ? '.' : ' ';
  }
  return text;
}

}  // namespace filigree::test
