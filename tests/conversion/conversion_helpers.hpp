// What the tests of conversion share.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"
#include "runtime/core/tensor.hpp"
#include "tests/harness/bits.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree::testing {

class HostileFileTest : public FolderTest {
 protected:
  // Bytes of a good file, changed one at a time and in bursts, or cut: each change is refused in
  // one line that names the file, or leaves a file that `read` can read; nothing else may happen
  // (AddressSanitizer watches the same test).
  void expect_no_harm(const std::string& good,
                      const std::function<void(const std::filesystem::path&)>& read) {
    const Philox random(7, RandomPurpose::sampling, 0);
    const std::filesystem::path changed = folder_ / "changed";
    int refused = 0, accepted = 0;
    for (std::uint64_t round = 0; round < 3000; ++round) {
      std::string bytes = good;
      const auto draw = random.bits(round);
      for (std::uint32_t i = 0; i <= draw[3] % 3; ++i)
        bytes[(draw[0] + i * draw[1]) % bytes.size()] = static_cast<char>(
            round % 2 == 0 ? draw[2] >> (8 * i) : "0123456789{}[]\":,"[draw[2] % 17]);
      if (draw[3] % 7 == 0) bytes.resize(draw[1] % bytes.size());
      std::filesystem::remove(changed);  // a file that is cut to nothing is flushed to disk
      std::ofstream(changed, std::ios::binary) << bytes;
      const std::string error = user_error([&] { read(changed); });
      const bool fits = error == kNoUserError;
      ++(fits ? accepted : refused);
      EXPECT_TRUE(fits || error.find("changed: ") != std::string::npos) << error;
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
    EXPECT_GT(refused, 500);  // both happen
    EXPECT_GT(accepted, 50);
  }
};

}  // namespace filigree::testing
