// What the tests of conversion share.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree::testing {

// A folder of its own for every test.
class FolderTest : public ::testing::Test {
 protected:
  static constexpr char kNothing[] = "nothing was thrown";

  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              str("filigree_", info->test_suite_name(), "_", info->name(), "_", ::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // The message of the UserError that `body` throws.
  template <class Body>
  static std::string error_of(const Body& body) {
    try {
      body();
    } catch (const UserError& error) {
      return error.what();
    }
    return kNothing;
  }

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
      const std::string error = error_of([&] { read(changed); });
      const bool fits = error == kNothing;
      ++(fits ? accepted : refused);
      EXPECT_TRUE(fits || error.find("changed: ") != std::string::npos) << error;
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
    EXPECT_GT(refused, 500);  // both happen
    EXPECT_GT(accepted, 50);
  }

  std::filesystem::path folder_;
};

// Bytes drawn from (seed, index), the same on every machine: any bit pattern of the dtype.
inline Tensor random_bits(const Shape& shape, DType dtype, std::uint64_t seed) {
  const Tensor values = Tensor::empty(shape, dtype);
  const Philox random(seed, RandomPurpose::sampling, 0);
  auto* bytes = static_cast<std::uint8_t*>(values.raw());
  for (std::int64_t i = 0; i < values.bytes(); ++i)
    bytes[i] = static_cast<std::uint8_t>(random.bits(static_cast<std::uint64_t>(i))[0]);
  return values;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::equal(static_cast<const std::uint8_t*>(a.raw()),
                    static_cast<const std::uint8_t*>(a.raw()) + a.bytes(),
                    static_cast<const std::uint8_t*>(b.raw()));
}

}  // namespace filigree::testing
