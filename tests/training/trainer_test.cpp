#include "runtime/training/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <stdexcept>

#include "checkpoint/checkpoint.hpp"
#include "parallel/run_ranks.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/evaluation.hpp"
#include "runtime/training/run_directory.hpp"
#include "runtime/training/run_model.hpp"
#include "runtime/training/training_engine.hpp"
#include "tests/harness/faulty_file_system.hpp"
#include "tests/harness/no_warning.hpp"
#include "tests/training/on_mesh.hpp"
#include "tests/training/tiny_shards.hpp"

namespace filigree {
namespace {

using testing::grid;
using testing::tiny_run;

struct KilledForTest : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The resolved configuration as text: what changes between the runs of these tests.
std::string text_of(const RunConfig& config) {
  return str("[optimizer]\nlearning_rate = ", config.optimizer.learning_rate,
             "\n[train]\nsteps = ", config.train.steps, "\nbatch = ", config.train.batch,
             "\nlog_every = ", config.train.log_every, "\n");
}

class TrainerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shards_ = new testing::TemporaryFolder;
    testing::make_tiny_shards(shards_->path() / "shards");
  }
  static void TearDownTestSuite() {
    delete shards_;
    shards_ = nullptr;
  }

  RunConfig config(const std::string& run, const std::string& dtype = "f32") const {
    RunConfig result = tiny_run(shards_->path() / "shards", folder_.path() / run);
    result.train.dtype = dtype;
    return result;
  }

  // Everything trains; the warm-up and the ramp end inside the run, on either side of a checkpoint.
  RunConfig adaptive_config(const std::string& run, const std::string& dtype) const {
    RunConfig result = config(run, dtype);
    result.model.sequence = 64;
    result.model.mechanism = "adaptive";
    result.model.sparsity.key_block = result.model.sparsity.query_group = 16;
    result.model.sparsity.density = 0.6;
    result.model.sparsity.dense_heads = 0.0;
    result.model.sparsity.head_gate = true;
    result.model.sparsity.warmup_steps = 4;
    result.model.sparsity.ramp_steps = 12;
    return result;
  }

  // Gates alone, on the weights of `dense`.
  RunConfig gates_config(const std::string& run, const RunConfig& dense) const {
    RunConfig result = adaptive_config(run, dense.train.dtype);
    result.model.sparsity.head_gate = false;
    result.model.sparsity.warmup_steps = result.model.sparsity.ramp_steps = 0;
    result.train.only = "gates";
    result.train.init_from = dense.run;
    return result;
  }

  using Hook = std::function<void(int rank, TrainingJob& job)>;
  // Trains on every rank of a grid; the outcome is the same on all.
  TrainingOutcome train_on(const MeshShape& shape, const RunConfig& config, bool resume = false,
                           const Hook& hook = {}) const {
    std::mutex mutex;
    std::set<TrainingOutcome> outcomes;
    run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
      TrainingJob job;
      job.config = config;
      job.config.parallel.tensor = shape.tensor;
      job.config = resolve(job.config, world->size(),
                           TokenDataset::open(config.data.path, "train").vocabulary());
      job.config_text = text_of(job.config);
      job.config_hash = "0123456789abcdef";
      job.resume = resume;
      job.console_level = LogLevel::error;
      if (hook) hook(world->rank(), job);
      const TrainingOutcome outcome = train(job, world);
      const std::lock_guard lock(mutex);
      outcomes.insert(outcome);
    });
    EXPECT_EQ(outcomes.size(), 1u);
    return *outcomes.begin();
  }

  std::string refusal(const MeshShape& shape, const RunConfig& config, bool resume) const {
    try {
      train_on(shape, config, resume);
    } catch (const AgreedError& error) {
      return error.what();
    }
    return "accepted";
  }

  testing::TemporaryFolder folder_;
  static testing::TemporaryFolder* shards_;
};
testing::TemporaryFolder* TrainerTest::shards_ = nullptr;

std::filesystem::path checkpoint_of(const RunConfig& config, std::int64_t step) {
  const auto newest = newest_checkpoint(std::filesystem::path(config.run) / "checkpoints",
                                        [](const std::string& text) { ADD_FAILURE() << text; });
  EXPECT_TRUE(newest.has_value());
  EXPECT_EQ(CheckpointReader(*newest).info().step, step);
  return *newest;
}

constexpr const char* kEmbedding = "parameters/embedding.weight";

Tensor whole_tensor(const CheckpointReader& reader, const std::string& name) {
  const Shape shape = reader.global_shape(name);
  const Tensor result = Tensor::zeros(shape, reader.dtype(name));
  reader.read(
      {name, result, shape, std::vector<std::int64_t>(static_cast<std::size_t>(shape.rank()))});
  return result;
}

// Every tensor and the whole training state, bit for bit.
void expect_same_checkpoint(const RunConfig& a, const RunConfig& b, std::int64_t step) {
  const CheckpointReader left(checkpoint_of(a, step)), right(checkpoint_of(b, step));
  ASSERT_EQ(left.names(), right.names());
  // Three tensors for each of the eleven parameters, or for both gates where these train alone.
  EXPECT_GE(left.names().size(), left.contains("optimizer/m/norm.weight") ? 33u : 17u);
  EXPECT_EQ(left.info().state, right.info().state);
  for (const std::string& name : left.names()) {
    const Tensor x = whole_tensor(left, name), y = whole_tensor(right, name);
    EXPECT_EQ(std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.bytes())), 0) << name;
  }
}

// Lines of metrics.jsonl without what depends on the clock.
std::vector<std::string> deterministic_metrics(const RunConfig& config) {
  std::vector<std::string> result;
  std::ifstream in(std::filesystem::path(config.run) / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    auto row = nlohmann::ordered_json::parse(line);
    if (row.at("kind") == "checkpoint") continue;  // comes when the disk is done
    row.erase("timing");
    result.push_back(row.dump());
  }
  return result;
}

std::vector<double> losses(const RunConfig& config) {
  std::vector<double> result;
  for (const std::string& line : deterministic_metrics(config))
    if (const auto row = nlohmann::json::parse(line); row.at("kind") == "step")
      result.push_back(row.at("loss"));
  return result;
}

enum class Kind { dense, stable, adaptive, gates };
struct Resumed {
  std::string name, dtype;
  MeshShape shape;
  Kind kind = Kind::dense;
};
class ResumeTest : public TrainerTest, public ::testing::WithParamInterface<Resumed> {};

// A kill loses the steps since the last checkpoint and leaves their lines in metrics.jsonl.
TEST_P(ResumeTest, AKilledRunGoesOnAsIfNothingHadHappened) {
  const auto& [name, dtype, shape, kind] = GetParam();
  RunConfig whole = config("whole", dtype), parts = config("parts", dtype);
  if (kind == Kind::adaptive) {
    whole = adaptive_config("whole", dtype);
    parts = adaptive_config("parts", dtype);
  }
  if (kind == Kind::gates) {
    RunConfig dense = config("dense", dtype);
    dense.model.sequence = 64;
    train_on(shape, dense);
    whole = gates_config("whole", dense);
    parts = gates_config("parts", dense);
  }
  for (RunConfig* run : {&whole, &parts}) {
    run->model.qk_norm = run->model.output_gate = kind == Kind::stable;
    if (kind == Kind::stable) run->model.sigma_reparam = "all";
    run->checkpoint.background = false;  // step 10 is to be on disk when step 13 is killed
  }
  EXPECT_EQ(train_on(shape, whole), TrainingOutcome::finished);
  EXPECT_THROW(train_on(shape, parts, false,
                        [](int rank, TrainingJob& job) {
                          if (rank != job.config.parallel.world() - 1) return;
                          job.on_step = [](const StepReport& report) {
                            if (report.step == 13) throw KilledForTest("killed");
                          };
                        }),
               KilledForTest);
  checkpoint_of(parts, 10);
  EXPECT_EQ(train_on(shape, parts, true), TrainingOutcome::finished);
  expect_same_checkpoint(whole, parts, 20);
  EXPECT_EQ(deterministic_metrics(whole), deterministic_metrics(parts));
  EXPECT_EQ(deterministic_metrics(whole).size(), 22u);  // the head, 20 steps, a validation
}

void PrintTo(const Resumed& resumed, std::ostream* out) { *out << resumed.name; }

INSTANTIATE_TEST_SUITE_P(
    Layouts, ResumeTest,
    ::testing::Values(Resumed{"f32", "f32", grid(1, 1)}, Resumed{"f64", "f64", grid(1, 1)},
                      Resumed{"bf16_dp2", "bf16", grid(2, 1)},
                      Resumed{"f32_dp2_tp2", "f32", grid(2, 2)},
                      Resumed{"stable_bf16", "bf16", grid(1, 1), Kind::stable},
                      Resumed{"stable_tp2", "f32", grid(1, 2), Kind::stable},
                      Resumed{"adaptive", "f32", grid(1, 1), Kind::adaptive},
                      Resumed{"adaptive_bf16_dp2_tp2", "bf16", grid(2, 2), Kind::adaptive},
                      Resumed{"gates", "f32", grid(1, 1), Kind::gates},
                      Resumed{"gates_bf16_dp2", "bf16", grid(2, 1), Kind::gates},
                      Resumed{"gates_dp2_tp2", "f32", grid(2, 2), Kind::gates}),
    [](const auto& info) { return info.param.name; });

TEST_F(TrainerTest, AStopRequestOnOneRankSavesAndInterruptsAll) {
  const RunConfig whole = config("whole"), parts = config("parts");
  train_on(grid(2, 1), whole);
  const auto stop_at_seven = [](int rank, TrainingJob& job) {
    auto steps = std::make_shared<int>(0);
    job.stop_requested = [rank, steps] { return rank == 1 && ++*steps == 7; };
  };
  EXPECT_EQ(train_on(grid(2, 1), parts, false, stop_at_seven), TrainingOutcome::interrupted);
  checkpoint_of(parts, 7);
  EXPECT_EQ(train_on(grid(2, 1), parts, true), TrainingOutcome::finished);
  expect_same_checkpoint(whole, parts, 20);
  EXPECT_EQ(deterministic_metrics(whole), deterministic_metrics(parts));
}

TEST_F(TrainerTest, LearnsTheTextAndGivesTheSameCurveOnOtherLayouts) {
  RunConfig alone = config("alone");
  alone.train.steps = 60;
  train_on(grid(1, 1), alone);
  const auto expected = losses(alone);
  EXPECT_LT(expected.back(), 0.6 * expected.front());
  for (const MeshShape& shape : {grid(2, 1), grid(1, 2), grid(2, 2)}) {
    RunConfig split = alone;
    split.run = folder_.path() / str("split_", shape.data, "_", shape.tensor);
    train_on(shape, split);
    const auto actual = losses(split);
    ASSERT_EQ(actual.size(), expected.size());
    // Rounding differences grow with the steps; 1e-4 is what they reach here, an error of a sum
    // exceeds it at once.
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 1e-4 * expected[i]) << shape.name() << " step " << i + 1;
  }
}

// What the layers did, as metrics.jsonl says it of the steps that are logged and of validation.
std::vector<nlohmann::json> layer_rows(const RunConfig& config) {
  std::vector<nlohmann::json> rows;
  for (const std::string& line : deterministic_metrics(config))
    if (const auto row = nlohmann::json::parse(line); row.contains("layers"))
      for (const nlohmann::json& layer : row.at("layers")) rows.push_back(layer);
  return rows;
}

TEST_F(TrainerTest, WritesTheSameLayerStatisticsOnEveryLayout) {
  RunConfig alone = adaptive_config("alone", "f64");
  alone.train.batch = 4;
  alone.model.sparsity.distill_share = 1.0;
  train_on(grid(1, 1), alone);
  const std::vector<nlohmann::json> expected = layer_rows(alone);
  ASSERT_GE(expected.size(), 2u);
  for (const MeshShape& shape : {grid(2, 1), grid(1, 2), grid(2, 2)}) {
    RunConfig split = alone;
    split.run = folder_.path() / shape.name();
    train_on(shape, split);
    const std::vector<nlohmann::json> actual = layer_rows(split);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(actual[i].size(), expected[i].size());
      EXPECT_GE(expected[i].size(), 8u);
      for (const auto& [key, value] : expected[i].items()) {
        const double number = value, other = actual[i].at(key);
        EXPECT_NEAR(other, number, 1e-9 * std::abs(number)) << shape.name() << ' ' << key;
      }
    }
  }
}

TEST_F(TrainerTest, AnyLayoutsCheckpointIsReadByOneProcessAndByAnother) {
  const RunConfig run = config("run", "f64");
  train_on(grid(2, 2), run);
  double expected = 0.0;
  for (const std::string& line : deterministic_metrics(run))
    if (const auto row = nlohmann::json::parse(line); row.at("kind") == "validation")
      expected = row.at("loss");
  EXPECT_GT(expected, 1.0);
  const TokenDataset validation = TokenDataset::open(run.data.path, "validation");
  for (const MeshShape& shape : {grid(1, 1), grid(2, 1), grid(1, 2)})
    testing::on_mesh(shape, [&](const Mesh& mesh) {
      RunModel model(resolve(run, 1, validation.vocabulary()), mesh,
                     newest_step(run.run, testing::no_warning), {});
      EXPECT_EQ(model.step(), 20);
      EXPECT_EQ(model.tokenizer().hash(), validation.tokenizer_hash());
      EvaluationOptions options;
      options.length = run.model.sequence;
      const EvaluationResult result =
          evaluate(model.model(), validation, mesh, options, model.context());
      EXPECT_NEAR(result.loss, expected, 1e-12 * expected) << shape.name();
    });
  const Mesh alone(self_communicator("world"), {});
  EXPECT_THROW(RunModel(resolve(run, 1, validation.vocabulary()), alone, 7, {}), UserError);
  EXPECT_EQ(RunModel(resolve(run, 1, validation.vocabulary()), alone, 10, {}).step(), 10);
}

// In f64, as if nothing had happened: every layout's checkpoint on every layout.
TEST_F(TrainerTest, GoesOnOnAnyLayoutFromAny) {
  const std::vector<MeshShape> layouts{grid(1, 1), grid(2, 1), grid(1, 2), grid(2, 2), grid(1, 4)};
  for (const bool sparse : {false, true}) {
    RunConfig whole = sparse ? adaptive_config("whole_sparse", "f64") : config("whole", "f64");
    whole.model.heads = 4;
    whole.model.kv_heads = 2;  // four tensor ranks share them
    whole.train.batch = 4;
    whole.train.steps = 8;
    whole.checkpoint.every = 4;
    train_on(grid(1, 1), whole);
    const std::vector<double> expected = losses(whole);
    for (const MeshShape& saved : layouts) {
      RunConfig half = whole;
      half.run = folder_.path() / str("saved_", sparse, saved.name());
      const auto stop_at_four = [](int, TrainingJob& job) {
        auto steps = std::make_shared<int>(0);
        job.stop_requested = [steps] { return ++*steps == 4; };
      };
      EXPECT_EQ(train_on(saved, half, false, stop_at_four), TrainingOutcome::interrupted);
      for (const MeshShape& loaded : layouts) {
        RunConfig rest = whole;
        rest.run = str(half.run, "_on_", loaded.name());
        std::filesystem::copy(half.run, rest.run, std::filesystem::copy_options::recursive);
        EXPECT_EQ(train_on(loaded, rest, true), TrainingOutcome::finished);
        const std::vector<double> actual = losses(rest);
        ASSERT_EQ(actual.size(), 8u);
        for (std::size_t i = 4; i < 8; ++i)
          EXPECT_NEAR(actual[i], expected[i], 1e-10 * expected[i])
              << saved.name() << " on " << loaded.name() << " step " << i + 1;
      }
    }
  }
}

// A disk that fails for a while costs a checkpoint, not the run.
TEST_F(TrainerTest, TrainingGoesOnWhenACheckpointCannotBeSaved) {
  RunConfig run = config("run");
  testing::FaultyFileSystem disk;
  disk.error = ENOSPC;
  disk.only = "open";
  disk.within = "step_00000010";
  disk.fail_from = 1;
  disk.fail_to = 1 << 20;
  const auto on_the_disk = [&](int, TrainingJob& job) { job.checkpoint_files = &disk; };
  EXPECT_EQ(train_on(grid(2, 1), run, false, on_the_disk), TrainingOutcome::finished);
  checkpoint_of(run, 20);
  std::vector<nlohmann::json> saves;
  std::ifstream in(std::filesystem::path(run.run) / "metrics.jsonl");
  for (std::string line; std::getline(in, line);)
    if (auto row = nlohmann::json::parse(line); row.at("kind") == "checkpoint")
      saves.push_back(std::move(row));
  ASSERT_EQ(saves.size(), 2u);
  EXPECT_NE(saves[0].at("failure").get<std::string>().find("No space left"), std::string::npos);
  EXPECT_GT(saves[1].at("bytes").get<std::int64_t>(), 0);
  EXPECT_GE(saves[1].at("timing").at("total_seconds").get<double>(),
            saves[1].at("timing").at("pause_seconds").get<double>());

  // The last one is the run's result: it must be there.
  RunConfig lost = config("lost");
  disk.within = "step_";
  try {
    train_on(grid(2, 1), lost, false, on_the_disk);
    ADD_FAILURE() << "a run without a checkpoint has ended well";
  } catch (const AgreedError& error) {
    EXPECT_NE(std::string(error.what()).find("step 20 was not saved"), std::string::npos);
  }
}

TEST_F(TrainerTest, ExtendsAFinishedRun) {
  RunConfig run = config("run");
  train_on(grid(1, 1), run);
  EXPECT_NE(refusal(grid(1, 1), run, true).find("has done 20 of train.steps = 20"),
            std::string::npos);
  run.train.steps = 25;
  EXPECT_EQ(train_on(grid(1, 1), run, true), TrainingOutcome::finished);
  checkpoint_of(run, 25);
  EXPECT_EQ(losses(run).size(), 25u);
  EXPECT_NE(read_file(RunDirectory::open(run.run).config_file()).find("steps = 25"),
            std::string::npos);
}

TEST_F(TrainerTest, GatesTrainOnTheWeightsOfAnotherRunAndLeaveThemAsTheyAre) {
  RunConfig dense = config("dense");
  dense.model.sequence = 64;
  train_on(grid(1, 1), dense);
  RunConfig gates = gates_config("gates", dense);
  gates.train.steps = 3;
  train_on(grid(2, 2), gates);
  const CheckpointReader before(checkpoint_of(dense, 20)), after(checkpoint_of(gates, 3));
  for (const std::string& name : before.names()) {
    if (!name.starts_with("parameters/")) continue;
    const Tensor x = whole_tensor(before, name), y = whole_tensor(after, name);
    EXPECT_EQ(std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.bytes())), 0) << name;
  }
  const RunConfig untrained = gates_config("untrained", dense);
  ExecutionContext context;
  const Mesh alone(self_communicator("world"), {});
  const TrainingEngine fresh(resolve(untrained, 1, whole_tensor(before, kEmbedding).dim(0)), alone,
                             context);
  const ParameterStore& store = fresh.parameters();
  for (std::size_t i = 0; i < store.size(); ++i) {
    if (!store[i].gate) continue;
    const Tensor trained = whole_tensor(after, "parameters/" + store[i].name);
    EXPECT_NE(std::memcmp(trained.raw(), store.master_of(i).raw(),
                          static_cast<std::size_t>(trained.bytes())),
              0)
        << store[i].name;
  }
  // A run that goes on from there takes the gates too, from the checkpoint's own folder.
  RunConfig again = gates_config("again", dense);
  again.train.init_from = checkpoint_of(gates, 3);
  again.train.steps = 1;
  again.schedule.warmup_steps = 0;
  again.optimizer.learning_rate = 0.0;
  train_on(grid(1, 1), again);
  const CheckpointReader same(checkpoint_of(again, 1));
  for (const std::string& name : same.names()) {
    if (!name.starts_with("parameters/")) continue;
    const Tensor x = whole_tensor(same, name), y = whole_tensor(after, name);
    EXPECT_EQ(std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.bytes())), 0) << name;
  }
}

void flip_last_byte(const std::filesystem::path& file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-1, std::ios::end);
  const int byte = stream.get();
  stream.seekp(-1, std::ios::end);
  stream.put(static_cast<char>(byte ^ 1));
  ASSERT_TRUE(stream.good());
}

TEST_F(TrainerTest, RefusesInitialWeightsThatDoNotFit) {
  RunConfig dense = config("dense");
  dense.model.sequence = 64;
  const RunConfig gates = gates_config("gates", dense);
  EXPECT_NE(refusal(grid(2, 1), gates, false).find("is neither a run nor a checkpoint"),
            std::string::npos);
  train_on(grid(1, 1), dense);
  const auto expect_refused = [&](const RunConfig& config, const std::string& reason) {
    const std::string message = refusal(grid(2, 1), config, false);
    EXPECT_NE(message.find(reason), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_FALSE(std::filesystem::exists(config.run)) << "a refused run left a folder";
  };
  RunConfig wide = gates;
  wide.model.feed_forward = 48;
  expect_refused(wide,
                 "'parameters/blocks.0.feed_forward.gate.weight' has shape [32, 16] there and "
                 "[48, 16] in the model");
  RunConfig wider = gates;
  wider.train.dtype = gates.train.dtype == "f64" ? "f32" : "f64";
  expect_refused(wider, "take the train.dtype of the run that saved it");
  RunConfig untied = gates;
  untied.model.tied_embeddings = false;
  expect_refused(untied, "it has no 'parameters/head.weight', which has shape");
  RunConfig shallow = gates;
  dense.run = folder_.path() / "deep";
  dense.model.layers = 2;
  train_on(grid(1, 1), dense);
  shallow.train.init_from = dense.run;
  expect_refused(shallow,
                 "'parameters/blocks.1.attention.key.weight' of shape [16, 16] is not part");
  const testing::TemporaryFolder other;
  testing::make_tiny_shards(other.path() / "shards", 5000);
  RunConfig moved = gates;
  moved.data.path = other.path() / "shards";
  expect_refused(moved, "was trained with tokenizer");
  // A checkpoint that is named itself is read to its last byte too.
  RunConfig damaged = gates;
  dense.run = folder_.path() / "dense";
  damaged.train.init_from = checkpoint_of(dense, 20);
  for (const auto& file : std::filesystem::recursive_directory_iterator(damaged.train.init_from))
    if (file.path().extension() == ".h5") flip_last_byte(file.path());
  expect_refused(damaged, "is damaged");
}

TEST_F(TrainerTest, RefusesToResumeAsSomethingElse) {
  const RunConfig run = config("run");
  train_on(grid(2, 1), run);
  RunConfig longer = run;
  longer.train.steps = 40;
  RunConfig faster = longer;
  faster.optimizer.learning_rate = 0.5;
  EXPECT_NE(refusal(grid(2, 1), faster, true).find("optimizer.learning_rate (was 0.02, now 0.5)"),
            std::string::npos);
  const testing::TemporaryFolder other;
  testing::make_tiny_shards(other.path() / "shards", 5000);
  RunConfig moved = longer;
  moved.data.path = other.path() / "shards";
  EXPECT_NE(refusal(grid(2, 1), moved, true).find("the shards in"), std::string::npos);
  EXPECT_NE(refusal(grid(2, 1), config("nowhere"), true).find("does not exist"), std::string::npos);
}

TEST_F(TrainerTest, RefusesAFolderThatExistsAndABatchTooSmall) {
  const RunConfig run = config("run");
  train_on(grid(1, 1), run);
  EXPECT_NE(refusal(grid(2, 1), run, false)
                .find("exists; choose another --run, or continue it with --resume"),
            std::string::npos);
  RunConfig small = config("small");
  small.train.batch = 1;
  EXPECT_NE(refusal(grid(2, 1), small, false).find("train.batch is 1 sequences for 2"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(small.run)) << "a refused run left a folder";
}

TEST_F(TrainerTest, StopsAfterTooManyNonFiniteStepsInARow) {
  RunConfig run = config("run");
  run.optimizer.learning_rate =
      1e30;  // the first update overflows f32, every later loss is not finite
  run.schedule.warmup_steps = 0;
  run.train.max_skipped_steps = 3;
  run.checkpoint.every = 1;
  const std::string message = refusal(grid(2, 1), run, false);
  EXPECT_NE(message.find("not finite in 4 steps in a row up to step 5"), std::string::npos)
      << message;
  EXPECT_NE(message.find("last good checkpoint: step 1 in"), std::string::npos) << message;
  std::vector<std::string> rows = deterministic_metrics(run);
  ASSERT_EQ(rows.size(), 6u);  // the head and five steps
  for (std::size_t step = 1; step <= 5; ++step)
    EXPECT_EQ(nlohmann::json::parse(rows[step]).at("skipped").get<bool>(), step > 1)
        << "step " << step;
}

}  // namespace
}  // namespace filigree
