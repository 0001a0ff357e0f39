#include "runtime/training/evaluation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "runtime/training/generation.hpp"
#include "runtime/training/trainer.hpp"
#include "runtime/training/training_engine.hpp"
#include "tests/training/on_mesh.hpp"
#include "tests/training/tiny_shards.hpp"

namespace filigree {
namespace {

using testing::grid;
using testing::on_mesh;

class EvaluationTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder;
    testing::make_tiny_shards(folder_->path() / "shards");
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static TokenDataset open(const std::string& split) {
    return TokenDataset::open(folder_->path() / "shards", split);
  }
  static std::vector<std::int32_t> tokens(const TokenDataset& dataset) {
    std::vector<std::int32_t> result(static_cast<std::size_t>(dataset.tokens()));
    dataset.read(0, result);
    return result;
  }
  static RunConfig config() {
    RunConfig result = testing::tiny_run(folder_->path() / "shards", "");
    result.train.dtype = "f64";
    result.model.initial_deviation = 0.3;  // predictions that differ from token to token
    return resolve(result, 1, open("train").vocabulary());
  }
  static testing::TemporaryFolder* folder_;
};
testing::TemporaryFolder* EvaluationTest::folder_ = nullptr;

// The definition, one token at a time: window by window, log p from the logits of the decoder.
double loss_by_decoding(const LanguageModel& model, const std::vector<std::int32_t>& text,
                        std::int64_t scored, ExecutionContext& context) {
  double sum = 0.0;
  const std::int64_t length = model.config().sequence;
  for (std::int64_t begin = 0; begin < scored; begin += length) {
    DecodeCache cache = model.make_cache(context, length);
    for (std::int64_t i = begin; i < std::min(begin + length, scored); ++i) {
      const Tensor logits = model.decode(
          context,
          Tensor::from<std::int32_t>({1}, std::span(text).subspan(static_cast<std::size_t>(i), 1)),
          cache);
      double normaliser = 0.0;
      for (const double logit : logits.span<double>()) normaliser += std::exp(logit);
      sum += std::log(normaliser) - logits.data<double>()[text[static_cast<std::size_t>(i) + 1]];
    }
  }
  return sum / static_cast<double>(scored);
}

TEST_F(EvaluationTest, MatchesTheDefinitionOnEveryLayoutAndBatchSize) {
  const RunConfig run = config();
  const TokenDataset validation = open("validation");
  const auto text = tokens(validation);
  const std::int64_t all = validation.tokens() - 1;
  ASSERT_NE(all % run.model.sequence, 0) << "the shorter last window is not exercised";
  for (const std::int64_t max_tokens : {std::int64_t{0}, 3 * run.model.sequence - 1}) {
    const std::int64_t scored = max_tokens == 0 ? all : 3 * run.model.sequence;
    double expected = 0.0;
    on_mesh(grid(1, 1), [&](const Mesh& mesh) {
      TrainingEngine engine(run, mesh, {});
      expected = loss_by_decoding(engine.model(), text, scored, engine.context());
    });
    for (const MeshShape& shape : {grid(1, 1), grid(2, 1), grid(1, 2), grid(3, 1)})
      for (const std::int64_t rows : {1, 4})
        on_mesh(shape, [&](const Mesh& mesh) {
          TrainingEngine engine(run, mesh, {});
          EvaluationOptions options;
          options.length = run.model.sequence;
          options.rows = rows;
          options.max_tokens = max_tokens;
          const EvaluationResult result =
              evaluate(engine.model(), validation, mesh, options, engine.context());
          EXPECT_EQ(result.tokens, scored);
          EXPECT_NEAR(result.loss, expected, 1e-11 * expected) << shape.name();
          EXPECT_NEAR(result.perplexity, std::exp(expected), 1e-9 * std::exp(expected));
          const double bytes_per_token = static_cast<double>(validation.text_bytes()) /
                                         static_cast<double>(validation.tokens());
          EXPECT_NEAR(result.bits_per_byte, expected / std::log(2.0) / bytes_per_token, 1e-11);
        });
  }
}

TEST_F(EvaluationTest, UnigramIsTheAddOneEstimateFromTheTrainSplit) {
  const TokenDataset train = open("train"), validation = open("validation");
  std::map<std::int32_t, double> counts;
  for (const std::int32_t id : tokens(train)) counts[id] += 1.0;
  const auto text = tokens(validation);
  double sum = 0.0;
  for (std::size_t i = 1; i < text.size(); ++i)
    sum -= std::log((counts[text[i]] + 1.0) /
                    static_cast<double>(train.tokens() + train.vocabulary()));
  const double expected = std::exp(sum / static_cast<double>(text.size() - 1));
  for (const int ranks : {1, 3})
    run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
      EvaluationOptions options;
      options.length = 16;
      const EvaluationResult result = evaluate_unigram(train, validation, *world, options);
      EXPECT_NEAR(result.perplexity, expected, 1e-11 * expected);
      EXPECT_EQ(result.tokens, static_cast<std::int64_t>(text.size()) - 1);
    });
}

TEST_F(EvaluationTest, ScoresOfATextAddUpToItsLossAndKeepHalfAWindowOfContext) {
  const RunConfig run = config();
  on_mesh(grid(1, 1), [&](const Mesh& mesh) {
    TrainingEngine engine(run, mesh, {});
    auto text = tokens(open("validation"));
    text.resize(45);  // almost three windows of 16
    const std::int32_t start = 5;
    const auto scores = score_tokens(engine.model(), text, start, engine.context());
    ASSERT_EQ(scores.size(), text.size());
    std::vector<std::int32_t> whole{start};
    whole.insert(whole.end(), text.begin(), text.end());
    // Token 20 is in the second window, which starts with token 8 of `whole`.
    const std::vector<std::int32_t> second(whole.begin() + 8, whole.end());
    const double first_window = loss_by_decoding(engine.model(), whole, 16, engine.context());
    double sum = 0.0;
    for (int i = 0; i < 16; ++i) sum -= scores[static_cast<std::size_t>(i)];
    EXPECT_NEAR(sum / 16, first_window, 1e-12);
    const double upto20 = loss_by_decoding(engine.model(), second, 13, engine.context()) * 13;
    const double upto19 = loss_by_decoding(engine.model(), second, 12, engine.context()) * 12;
    EXPECT_NEAR(-scores[20], upto20 - upto19, 1e-10);
  });
}

TEST_F(EvaluationTest, GreedyGenerationFollowsTheLogitsOfTheWholeText) {
  const RunConfig run = config();
  on_mesh(grid(1, 1), [&](const Mesh& mesh) {
    TrainingEngine engine(run, mesh, {});
    const std::vector<std::int32_t> prompt = {7, 30, 12};
    SamplingOptions sampling;
    sampling.greedy = true;
    const auto added = generate(engine.model(), prompt, 5, -1, sampling, engine.context());
    ASSERT_EQ(added.size(), 5u);
    std::vector<std::int32_t> text = prompt;
    for (const std::int32_t token : added) {
      DecodeCache cache =
          engine.model().make_cache(engine.context(), 16);  // nothing kept from the step before
      const Tensor logits = engine.model().decode(
          engine.context(),
          Tensor::from<std::int32_t>({static_cast<std::int64_t>(text.size())}, text), cache);
      const auto values = logits.span<double>();
      EXPECT_EQ(token, std::max_element(values.begin(), values.end()) - values.begin());
      text.push_back(token);
    }
    const auto stopped = generate(engine.model(), prompt, 5, added[0], sampling, engine.context());
    EXPECT_TRUE(stopped.empty()) << "went on after the end of the document";
    EXPECT_EQ(generate(engine.model(), prompt, 500, -1, sampling, engine.context()).size(), 13u);
    EXPECT_THROW(generate(engine.model(), std::vector<std::int32_t>(16, 7), 5, -1, sampling,
                          engine.context()),
                 UserError);
  });
}

}  // namespace
}  // namespace filigree
