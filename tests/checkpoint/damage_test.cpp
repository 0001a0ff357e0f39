// Whatever happens to a checkpoint's files, reading says which file and which tensor, or gives the
// right values.
#include <fstream>

#include "checkpoint/manifest.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"
#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

const GlobalTensor& global(int index, std::uint64_t seed = 1) {
  static const std::vector<GlobalTensor> tensors = [] {
    std::vector<GlobalTensor> made;
    for (const std::uint64_t s : {1u, 2u}) {
      made.push_back({"parameters/w", random_bits({16, 32}, DType::f32, "w", s)});
      made.push_back({"optimizer/m/w", random_bits({16, 32}, DType::f64, "m", s)});
    }
    return made;
  }();
  return tensors[static_cast<std::size_t>(index) + (seed == 1 ? 0 : 2)];
}

fs::path save(const fs::path& folder, std::int64_t step, std::uint64_t seed = 1) {
  run_ranks(2, [&](std::shared_ptr<Communicator> world) {
    save_checkpoint(folder, info_of(step, 1, 2),
                    {shard_of(global(0, seed), 0, 2, world->rank()),
                     shard_of(global(1, seed), 1, 2, world->rank())},
                    *world, {.keep = 10});
  });
  return folder / step_folder_name(step);
}

class Damage : public ::testing::Test {
 protected:
  void SetUp() override { step_ = save(scratch_.path(), 5); }

  std::string bytes(const std::string& name) const { return read_file(step_ / name); }
  void put(const std::string& name, const std::string& content) const {
    std::ofstream(step_ / name, std::ios::binary | std::ios::trunc) << content;
  }
  void flip(const std::string& name, std::size_t byte, int bit) const {
    std::string content = bytes(name);
    content.at(byte) = static_cast<char>(content.at(byte) ^ (1 << bit));
    put(name, content);
  }
  // Where the first value of a tensor lies in a rank's file.
  std::size_t place_of(const std::string& tensor, std::size_t file) const {
    const CheckpointManifest current = manifest();
    for (const SavedSlice& slice : current.tensors.at(tensor).slices) {
      if (slice.file == file) return static_cast<std::size_t>(slice.file_offset);
    }
    ADD_FAILURE() << tensor;
    return 0;
  }
  CheckpointManifest manifest() const { return parse_manifest(bytes("manifest.json"), "manifest"); }
  void put(const CheckpointManifest& changed) const { put("manifest.json", to_text(changed)); }

  std::string open_error() const {
    return user_error([&] { CheckpointReader reader(step_); });
  }
  std::string verify_error() const {
    return user_error([&] { CheckpointReader(step_).verify(); });
  }
  std::string read_error(int index) const {
    return user_error([&] { CheckpointReader(step_).read(poisoned(whole_of(global(index)))); });
  }

  TemporaryFolder scratch_;
  fs::path step_;
};

TEST_F(Damage, FlippedBitInATensor) {
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const std::string file = "rank_0000" + std::to_string(rank) + ".h5";
    const std::size_t byte = place_of("optimizer/m/w", rank) + 100;
    flip(file, byte, 3);
    for (const std::string& text : {verify_error(), read_error(1)}) {
      expect_mentions(text, {file, "damaged", "'optimizer/m/w'"});
    }
    expect_reads(CheckpointReader(step_), whole_of(global(0)));
    flip(file, byte, 3);
  }
  CheckpointReader(step_).verify();
}

TEST_F(Damage, FlippedBitInTheHdf5Structure) {
  flip("rank_00001.h5", 60, 0);
  expect_mentions(verify_error(), {"rank_00001.h5", "HDF5 structure"});
  for (const int index : {0, 1}) {
    expect_mentions(read_error(index), {"rank_00001.h5", "HDF5", global(index).name});
  }
}

TEST_F(Damage, NoFlippedBitIsSilent) {
  const Philox philox(11, RandomPurpose::test, 0);
  for (std::uint64_t round = 0; round < 1000; ++round) {
    const auto draw = philox.bits(round);
    const std::string name = round % 3 == 0   ? "manifest.json"
                             : round % 3 == 1 ? "rank_00000.h5"
                                              : "rank_00001.h5";
    const std::string before = bytes(name);
    flip(name, draw[0] % before.size(), static_cast<int>(draw[1] % 8));
    expect_mentions(verify_error(), {name});
    put(name, before);
  }
  CheckpointReader(step_).verify();
}

TEST_F(Damage, TruncatedLongerAndMissingFiles) {
  const std::string whole = bytes("rank_00001.h5");
  put("rank_00001.h5", whole.substr(0, whole.size() - 1));
  expect_mentions(open_error(), {"rank_00001.h5", "cut short", std::to_string(whole.size())});
  put("rank_00001.h5", whole + "x");
  expect_mentions(open_error(), {"rank_00001.h5", "replaced"});
  fs::remove(step_ / "rank_00001.h5");
  expect_mentions(open_error(), {"rank_00001.h5", "No such file"});
  fs::create_directory(step_ / "rank_00001.h5");
  expect_mentions(open_error(), {"rank_00001.h5", "cannot be used"});
}

TEST_F(Damage, AFileThatShrinksAfterOpening) {
  const CheckpointReader reader(step_);
  put("rank_00000.h5", "");
  expect_mentions(user_error([&] { reader.read(poisoned(whole_of(global(0)))); }),
                  {"rank_00000.h5"});
}

TEST_F(Damage, RankFilesThatChangedPlaces) {
  fs::rename(step_ / "rank_00000.h5", step_ / "spare");
  fs::rename(step_ / "rank_00001.h5", step_ / "rank_00000.h5");
  fs::rename(step_ / "spare", step_ / "rank_00001.h5");
  expect_mentions(read_error(0), {"rank_00000.h5", "'parameters/w'"});
  expect_mentions(verify_error(), {"rank_00000.h5"});
}

TEST_F(Damage, ManifestOfAnotherRun) {
  const fs::path other = save(scratch_.path() / "other", 5, 2);
  put("manifest.json", read_file(other / "manifest.json"));
  expect_mentions(read_error(0), {"rank_00000.h5", "another checkpoint", "'parameters/w'"});
  expect_mentions(verify_error(), {"rank_00000.h5", "'optimizer/m/w'"});
  // The same values saved twice are still two saves: what is mixed is refused.
  const fs::path again = save(scratch_.path() / "again", 5);
  put("manifest.json", read_file(again / "manifest.json"));
  expect_mentions(read_error(0), {"rank_00000.h5", "another checkpoint"});
}

TEST_F(Damage, EditedManifest) {
  const std::string text = bytes("manifest.json");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    EXPECT_NE(changed.find(from), std::string::npos) << from;
    put("manifest.json", changed.replace(changed.find(from), from.size(), to));
    return open_error();
  };
  expect_mentions(replaced("\"step\": 5", "\"step\": 6"), {"manifest.json", "edited"});
  expect_mentions(replaced("\"version\": 1", "\"version\": 2"),
                  {"manifest.json", "format version 2", "reads version 1"});
  expect_mentions(replaced("filigree-checkpoint", "somebody-elses"),
                  {"manifest.json", "not a manifest"});
  expect_mentions(replaced("{", "["), {"manifest.json", "JSON"});
  for (const std::string& content : {std::string(), text.substr(0, text.size() / 2),
                                     std::string("[]"), std::string("null"), text + " "}) {
    put("manifest.json", content);
    expect_mentions(open_error(), {"manifest.json"});
  }
  fs::remove(step_ / "manifest.json");
  expect_mentions(open_error(), {"has no file manifest.json"});
}

TEST_F(Damage, ManifestsWithARightHashAndWrongContent) {
  const CheckpointManifest good = manifest();
  const auto error_with = [&](const std::function<void(CheckpointManifest&, SavedSlice&)>& change) {
    CheckpointManifest changed = good;
    change(changed, changed.tensors.at("parameters/w").slices[1]);
    put(changed);
    return open_error();
  };
  const auto at = [](std::int64_t offset) {
    return [=](CheckpointManifest&, SavedSlice& slice) { slice.file_offset = offset; };
  };
  expect_mentions(error_with(at(-8)), {"manifest.json", "rank_00001.h5"});
  expect_mentions(error_with(at(std::int64_t{1} << 40)), {"manifest.json", "rank_00001.h5"});
  expect_mentions(error_with([](CheckpointManifest&, SavedSlice& slice) { slice.file = 2; }),
                  {"no file"});
  expect_mentions(
      error_with([](CheckpointManifest&, SavedSlice& slice) { slice.region.end[0] += 1; }),
      {"reaches outside"});
  expect_mentions(
      error_with([](CheckpointManifest& all, SavedSlice&) { all.files[0].name = "../x"; }),
      {"'../x'"});
  expect_mentions(error_with([](CheckpointManifest& all, SavedSlice&) { all.files[1].bytes = -1; }),
                  {"manifest.json"});
}

TEST_F(Damage, AMissingSliceIsNamed) {
  CheckpointManifest changed = manifest();
  changed.tensors.at("optimizer/m/w")
      .slices.erase(changed.tensors.at("optimizer/m/w").slices.begin());
  put(changed);
  expect_mentions(read_error(1), {"'optimizer/m/w'", "incomplete", "[0:16, 0:16] of [16, 32]"});
  const CheckpointReader reader(step_);
  expect_reads(reader, shard_of(global(1), 1, 2, 1));
}

TEST(NewestCheckpoint, PassesOverDamagedOnesAndSaysWhy) {
  const TemporaryFolder scratch;
  EXPECT_EQ(newest_checkpoint(scratch.path() / "none", no_warning), std::nullopt);
  EXPECT_EQ(newest_checkpoint(scratch.path(), no_warning), std::nullopt);
  for (const std::int64_t step : {9, 10, 11, 12}) save(scratch.path(), step);
  fs::create_directory(scratch.path() / "step_00000013.tmp.0a1b2c3d");
  fs::create_directory(scratch.path() / "step_14");
  std::ofstream(scratch.path() / "step_00000015") << "a file";
  EXPECT_EQ(newest_checkpoint(scratch.path(), no_warning), scratch.path() / "step_00000012");

  fs::resize_file(scratch.path() / "step_00000012" / "rank_00000.h5", 100);
  const fs::path damaged = scratch.path() / "step_00000011" / "rank_00001.h5";
  std::string content = read_file(damaged);
  content[content.size() - 20] ^= 1;
  std::ofstream(damaged, std::ios::binary) << content;
  fs::create_directory(scratch.path() / "step_00000020");
  std::vector<std::string> warnings;
  const auto newest =
      newest_checkpoint(scratch.path(), [&](const std::string& text) { warnings.push_back(text); });
  EXPECT_EQ(newest, scratch.path() / "step_00000010");
  ASSERT_EQ(warnings.size(), 3u);
  expect_mentions(warnings[0], {"step_00000020", "manifest.json"});
  expect_mentions(warnings[1], {"step_00000012", "rank_00000.h5"});
  expect_mentions(warnings[2], {"step_00000011", "rank_00001.h5"});
}

}  // namespace
}  // namespace filigree
