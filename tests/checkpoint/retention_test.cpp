#include <fstream>

#include "runtime/storage/atomic_file.hpp"
#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

const GlobalTensor& weights() {
  static const GlobalTensor tensor{"w", random_bits({8, 4}, DType::f32, "w")};
  return tensor;
}

SavedCheckpoint save(const fs::path& folder, std::int64_t step, std::int64_t keep) {
  const auto world = self_communicator();
  return save_checkpoint(folder, info_of(step), {whole_of(weights())}, *world, {.keep = keep});
}

using Names = std::vector<std::string>;

void flip_last_byte(const fs::path& file) {
  std::string content = read_file(file);
  content.back() = static_cast<char>(content.back() ^ 1);
  std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

TEST(Retention, KeepsTheNewest) {
  const TemporaryFolder scratch;
  for (const std::int64_t step : {1, 2, 10}) save(scratch.path(), step, 3);
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000001", "step_00000002", "step_00000010"}));
  save(scratch.path(), 11, 2);
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000010", "step_00000011"}));
}

TEST(Retention, KeepsMultiplesForGood) {
  const TemporaryFolder scratch;
  const auto world = self_communicator();
  for (std::int64_t step = 5; step <= 45; step += 5)
    save_checkpoint(scratch.path(), info_of(step), {whole_of(weights())}, *world,
                    {.keep = 2, .every = 20});
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000020", "step_00000040", "step_00000045"}));
}

TEST(Retention, NeverRemovesTheOneJustWritten) {
  const TemporaryFolder scratch;
  for (const std::int64_t step : {20, 30}) save(scratch.path(), step, 5);
  save(scratch.path(), 10, 1);  // a run that went back
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000010", "step_00000030"}));
}

TEST(Retention, NeverRemovesTheLastTwoThatAreIntact) {
  const TemporaryFolder scratch;
  for (const std::int64_t step : {1, 2, 3, 4}) save(scratch.path(), step, 9);
  for (const char* damaged : {"step_00000003", "step_00000004"})
    flip_last_byte(scratch.path() / damaged / "rank_00000.h5");
  save(scratch.path(), 5, 1);
  // 4 and 3 open, and would do for a rule that does not look inside.
  EXPECT_EQ(names_in(scratch.path()),
            (Names{"step_00000002", "step_00000003", "step_00000004", "step_00000005"}));
}

TEST(Retention, DoesNotCountOrTouchWhatCannotBeOpened) {
  const TemporaryFolder scratch;
  for (const std::int64_t step : {1, 2, 3}) save(scratch.path(), step, 5);
  fs::remove(scratch.path() / "step_00000003" / "rank_00000.h5");
  save(scratch.path(), 4, 2);
  EXPECT_EQ(names_in(scratch.path()), (Names{"step_00000002", "step_00000003", "step_00000004"}));
}

TEST(Retention, RemovesLeftoversOfDeadSavesAndNothingElse) {
  const TemporaryFolder scratch;
  for (const char* name :
       {"step_00000007.tmp.0a1b2c3d", "step_00000003.tmp.removed", "step_x.tmp.1", "notes"}) {
    fs::create_directory(scratch.path() / name);
    std::ofstream(scratch.path() / name / "rank_00000.h5") << "half";
  }
  EXPECT_TRUE(save(scratch.path(), 5, 1).warnings.empty());
  EXPECT_EQ(names_in(scratch.path()), (Names{"notes", "step_00000005", "step_x.tmp.1"}));
}

TEST(Retention, AStepThatIsSavedAgainTakesThePlaceOfTheOldOne) {
  const TemporaryFolder scratch;
  save(scratch.path(), 5, 2);
  std::ofstream(scratch.path() / "step_00000005" / "manifest.json") << "damaged";
  save(scratch.path(), 5, 2);
  EXPECT_EQ(names_in(scratch.path()), Names{"step_00000005"});
  expect_reads(CheckpointReader(*newest_checkpoint(scratch.path(), no_warning)),
               whole_of(weights()));
}

TEST(Folders, OnlyTheExactNameIsAStep) {
  EXPECT_EQ(step_folder_name(200), "step_00000200");
  EXPECT_EQ(step_of_folder_name("step_00000200"), 200);
  EXPECT_EQ(step_of_folder_name(step_folder_name(1234567890123)), 1234567890123);
  for (const char* name : {"step_", "step_200", "step_0000020x", "step_-0000001", "step_00000200 ",
                           "step_000000200", "step_00000200.tmp.1", "step_99999999999999999999"}) {
    EXPECT_EQ(step_of_folder_name(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace filigree
