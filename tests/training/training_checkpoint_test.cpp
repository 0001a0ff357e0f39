#include "runtime/training/training_checkpoint.hpp"

#include <gtest/gtest.h>

namespace filigree {
namespace {

constexpr const char* kSaved =
    "# a comment\n[model]\nwidth = 256\n\n[train]\nsteps = 100\nseed = 1\nlog_every = 10\n";

TEST(CheckResumable, AllowsWhatDoesNotChangeTheNumbers) {
  EXPECT_NO_THROW(check_resumable(kSaved, kSaved));
  EXPECT_NO_THROW(check_resumable(
      kSaved, "[model]\nwidth=256\n[train]\nsteps = 200\nseed = 1\nlog_every = 1 # often\n"));
}

TEST(CheckResumable, NamesEveryOtherChangeWithBothValues) {
  try {
    check_resumable(kSaved, "[model]\nwidth = 512\n[train]\nsteps = 100\nseed = 2\nbatch = 7\n");
    ADD_FAILURE() << "another model and seed were accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part :
         {"model.width (was 256, now 512)", "train.seed (was 1, now 2)",
          "train.batch (was not set, now 7)", "may change: data.path, train.steps"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
}

TEST(CheckResumable, TakesOptionsThatTheSavedConfigurationIsTooOldForAsTheirDefaults) {
  const std::string defaults = "[model]\nwidth = 128\nqk_norm = false\n";
  const std::string now = "[model]\nwidth = 256\nqk_norm = ";
  EXPECT_NO_THROW(check_resumable(kSaved, now + "false\n", defaults));
  try {
    check_resumable(kSaved, now + "true\n", defaults);
    ADD_FAILURE() << "another model was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.qk_norm (was false, now true)"),
              std::string::npos)
        << error.what();
  }
}

TEST(TrainingState, SurvivesTheManifest) {
  TrainingState state;
  state.step = 12;
  state.updates = 11;
  state.skipped_in_a_row = 1;
  state.samples = 12 * 32;
  state.tokens = std::int64_t{1} << 40;
  state.seed = ~std::uint64_t{0};
  state.dataset_hash = "abc";
  state.tokenizer_hash = "def";
  CheckpointInfo info;
  info.state = nlohmann::json::parse(to_json(state).dump());
  EXPECT_EQ(training_state(info, "step"), state);
  info.state.erase("updates");
  EXPECT_THROW(training_state(info, "step"), UserError);
}

}  // namespace
}  // namespace filigree
