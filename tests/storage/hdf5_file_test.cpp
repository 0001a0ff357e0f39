#include "runtime/storage/hdf5_file.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"
#include "runtime/storage/posix_file.hpp"
#include "tests/harness/temporary_folder.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree {
namespace {

using testing::user_error;

using StorageTest = testing::FolderTest;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(StorageTest, DatasetsAndAttributesComeBack) {
  const std::filesystem::path path = folder_ / "a.h5";
  const std::vector<double> values{1.5, -2.25, 3e300, 0.1, 7, -0.0};
  Hdf5Dataset created;
  {
    Hdf5File file = Hdf5File::create(path);
    created = file.create_dataset("group/inner/values", Hdf5Type::f64, {2, 3});
    file.create_dataset("none", Hdf5Type::u16, {0});
    file.create_dataset("scalar", Hdf5Type::u8, {});
    file.write_attribute("/", "version", std::int64_t{-7});
    file.write_attribute("group/inner/values", "dtype", std::string("bf16"));
    file.write_attribute("/", "empty", std::string());
    file.close();
  }
  {
    const PosixFile raw = PosixFile::open_for_writing(path);
    raw.write_at(created.file_offset, values.data(), created.bytes);
    raw.sync();
  }
  const Hdf5File file = Hdf5File::open(path);
  const Hdf5Dataset found = file.dataset("group/inner/values");
  EXPECT_EQ(found.type, Hdf5Type::f64);
  EXPECT_EQ(found.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(found.bytes, 48);
  EXPECT_EQ(found.file_offset, created.file_offset);
  std::vector<double> back(6, 99.0);
  PosixFile::open_for_reading(path).read_at(found.file_offset, back.data(), found.bytes);
  EXPECT_EQ(back, values);
  EXPECT_EQ(file.dataset("none").shape, std::vector<std::int64_t>{0});
  EXPECT_EQ(file.dataset("scalar").bytes, 1);
  EXPECT_EQ(file.integer_attribute("/", "version"), -7);
  EXPECT_EQ(file.text_attribute("group/inner/values", "dtype"), "bf16");
  EXPECT_EQ(file.text_attribute("/", "empty"), "");
  EXPECT_TRUE(file.has_dataset("group/inner/values"));
  EXPECT_FALSE(file.has_dataset("group/other/values"));
  EXPECT_FALSE(file.has_dataset("group"));
  EXPECT_TRUE(file.has_attribute("/", "version"));
  EXPECT_FALSE(file.has_attribute("/", "other"));
}

TEST_F(StorageTest, ErrorsNameTheFileAndTheObject) {
  const std::filesystem::path path = folder_ / "b.h5";
  const std::string missing = user_error([&] { Hdf5File::open(path); });
  EXPECT_TRUE(contains(missing, "b.h5") && contains(missing, "No such file")) << missing;
  Hdf5File file = Hdf5File::create(path);
  file.create_dataset("x", Hdf5Type::u16, {4});
  file.write_attribute("/", "text", std::string("t"));
  const std::string absent = user_error([&] { file.dataset("y"); });
  EXPECT_TRUE(contains(absent, "b.h5") && contains(absent, "'y'")) << absent;
  const std::string no_attribute = user_error([&] { file.integer_attribute("x", "size"); });
  EXPECT_TRUE(contains(no_attribute, "'size' of 'x'")) << no_attribute;
  const std::string wrong_kind = user_error([&] { file.integer_attribute("/", "text"); });
  EXPECT_TRUE(contains(wrong_kind, "as an integer")) << wrong_kind;
  file.close();
  const std::string exists = user_error([&] { Hdf5File::create(path); });
  EXPECT_TRUE(contains(exists, "b.h5")) << exists;
}

TEST_F(StorageTest, ATruncatedFileDoesNotOpen) {
  const std::filesystem::path path = folder_ / "c.h5";
  Hdf5File file = Hdf5File::create(path);
  file.create_dataset("x", Hdf5Type::u32, {5000});
  file.close();
  const auto size = std::filesystem::file_size(path);
  for (const std::uintmax_t kept : {size - 1, size / 2, std::uintmax_t{100}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(path, kept);
    EXPECT_THROW(Hdf5File::open(path), UserError) << kept << " of " << size << " bytes kept";
  }
}

TEST_F(StorageTest, AFlippedMetadataBitDoesNotPassUnseen) {
  const std::filesystem::path path = folder_ / "d.h5";
  Hdf5File file = Hdf5File::create(path);
  file.write_attribute("/", "vocabulary", std::int64_t{8192});
  file.close();
  const std::string good = read_file(path);
  int errors = 0;
  for (std::size_t byte = 0; byte < std::min<std::size_t>(good.size(), 300); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ 4);
    write_file_atomically(path, bad);
    try {
      const Hdf5File damaged = Hdf5File::open(path);
      EXPECT_EQ(damaged.integer_attribute("/", "vocabulary"), 8192) << "byte " << byte;
    } catch (const UserError&) {
      ++errors;
    }
  }
  EXPECT_GT(errors, 100);
}

TEST_F(StorageTest, FilesMayBeUsedFromSeveralThreads) {
  std::vector<std::thread> threads;
  std::array<std::int64_t, 4> sums{};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const std::filesystem::path path = folder_ / str("t", t, "_", i, ".h5");
        Hdf5File file = Hdf5File::create(path);
        file.write_attribute("/", "value", std::int64_t{t * 10 + i});
        file.close();
        sums[std::size_t(t)] += Hdf5File::open(path).integer_attribute("/", "value");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) EXPECT_EQ(sums[std::size_t(t)], t * 100 + 45);
}

TEST_F(StorageTest, AtomicFilesReplaceAndLeaveNothingBehind) {
  const std::filesystem::path path = folder_ / "m.json";
  write_file_atomically(path, "first");
  write_file_atomically(path, std::string("sec\0ond", 7));
  EXPECT_EQ(read_file(path), std::string("sec\0ond", 7));
  const std::string missing =
      user_error([&] { write_file_atomically(folder_ / "absent" / "m.json", "x"); });
  EXPECT_TRUE(contains(missing, "absent/m.json")) << missing;
  std::filesystem::create_directories(folder_ / "taken" / "by_a_folder");
  EXPECT_THROW(write_file_atomically(folder_ / "taken", "x"), UserError);
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_)) ++entries;
  EXPECT_EQ(entries, 2u) << "a temporary file was left";
  const std::string large = user_error([&] { read_file(path, 6); });
  EXPECT_TRUE(contains(large, "7 bytes")) << large;
}

TEST_F(StorageTest, ReadingPastTheEndNamesTheByte) {
  write_file_atomically(folder_ / "short", "abcdef");
  const PosixFile file = PosixFile::open_for_reading(folder_ / "short");
  char buffer[8] = {};
  file.read_at(2, buffer, 3);
  EXPECT_EQ(std::string(buffer, 3), "cde");
  const std::string error = user_error([&] { file.read_at(4, buffer, 4); });
  EXPECT_TRUE(contains(error, "ends at byte 6") && contains(error, "truncated")) << error;
}

TEST_F(StorageTest, AllocationBeyondTheDiskIsAUserError) {
  const PosixFile file = PosixFile::create(folder_ / "huge");
  EXPECT_THROW(file.allocate(std::int64_t{1} << 60), UserError);
}

// Values of the xxHash reference implementation (xxhsum -H3 and -H2 of the empty input).
TEST_F(StorageTest, HashesHaveTheirPublishedValues) {
  EXPECT_EQ(hex(hash64("", 0)), "2d06800538d394c2");
  EXPECT_EQ(hash128(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hex(0x0123456789abcdefu), "0123456789abcdef");
}

TEST_F(StorageTest, PiecewiseHashIsTheHashOfTheWhole) {
  std::string bytes(3'000'001, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  Hasher128 hasher;
  for (std::size_t begin = 0, step = 1; begin < bytes.size(); begin += step, step = step * 3 + 1) {
    hasher.update(bytes.data() + begin, std::min(step, bytes.size() - begin));
  }
  EXPECT_EQ(hasher.digest(), hash128(bytes));
  write_file_atomically(folder_ / "bytes", bytes);
  EXPECT_EQ(hash128_of_file(folder_ / "bytes"), hash128(bytes));
  bytes[2'999'999] ^= 1;
  EXPECT_NE(hasher.digest(), hash128(bytes));
}

}  // namespace
}  // namespace filigree
