// Scratch folders, small corpora and error messages for the data pipeline's tests.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "runtime/core/error.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree::test {

using testing::user_error;

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
