// What every registered mechanism promises, on a small model with several blocks of keys.
#include <gtest/gtest.h>

#include <cstring>

#include "layers/sparsity/registry.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_ids;
using testing::sequences;
using testing::TinyModel;

constexpr std::int64_t kSequence = 132;  // 8 blocks of 16 and a quarter

ModelConfig sparse_config(const std::string& mechanism) {
  ModelConfig config = testing::tiny_config();
  config.mechanism = mechanism;
  config.sequence = kSequence;
  config.sparsity.key_block = 16;
  config.sparsity.query_group = 16;
  config.sparsity.density = 0.7;
  config.sparsity.window = mechanism == "sliding_window" ? 20 : 0;
  config.sparsity.sinks = mechanism == "sliding_window" ? 3 : 0;
  config.sparsity.local_blocks = mechanism == "adaptive" ? 0 : 2;
  config.sparsity.stride_blocks = 3;
  return config.resolved(0);
}

// The mechanisms, and adaptive in every way to select and every size of group.
struct Case {
  std::string name;
  ModelConfig config;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& name : mechanism_names()) all.push_back({name, sparse_config(name)});
  const auto adaptive = [&](const std::string& name, const auto& change) {
    ModelConfig config = sparse_config("adaptive");
    change(config.sparsity);
    all.push_back({"adaptive_" + name, config.resolved(0)});
  };
  adaptive("group_1", [](SparsityConfig& c) { c.query_group = 1; });
  adaptive("group_5", [](SparsityConfig& c) { c.query_group = 5; });
  adaptive("group_40", [](SparsityConfig& c) { c.query_group = 40; });
  adaptive("top_k", [](SparsityConfig& c) {
    c.selection = "top_k";
    c.top_k = 4;
    c.dense_heads = 0.0;
  });
  adaptive("threshold", [](SparsityConfig& c) {
    c.selection = "threshold";
    c.threshold = 0.3;
  });
  adaptive("local", [](SparsityConfig& c) {
    c.local_blocks = 2;
    c.query_group = 5;
    c.density = 0.9;
    c.dense_heads = 0.0;
  });
  adaptive("distill", [](SparsityConfig& c) { c.learn = "distill"; });
  adaptive("end_to_end", [](SparsityConfig& c) {
    c.learn = "end_to_end";
    c.window = 7;
    c.sinks = 2;
    c.gate_dim = 8;
  });
  adaptive("head_gate", [](SparsityConfig& c) {
    c.head_gate = true;
    c.head_threshold = 0.5;
    c.dense_heads = 0.25;
  });
  adaptive("head_gate_group_5", [](SparsityConfig& c) {
    c.head_gate = true;
    c.head_threshold = 0.5;
    c.query_group = 5;
    c.dense_heads = 0.0;
    c.learn = "end_to_end";
  });
  const auto seer = [&](const std::string& name, const auto& change) {
    ModelConfig config = sparse_config("seer");
    change(config.sparsity);
    all.push_back({"seer_" + name, config.resolved(0)});
  };
  seer("top_k", [](SparsityConfig& c) {
    c.selection = "top_k";
    c.top_k = 3;
  });
  // The budget holds the diagonal alone; where a document begins, its first block is read as well.
  seer("top_1", [](SparsityConfig& c) {
    c.selection = "top_k";
    c.top_k = 1;
  });
  seer("threshold", [](SparsityConfig& c) {
    c.selection = "threshold";
    c.threshold = 0.2;
  });
  return all;
}

class MechanismConformance : public ::testing::TestWithParam<Case> {
 protected:
  const ModelConfig& config() const { return GetParam().config; }
  MechanismTraits traits() const {
    ParameterStore store;
    return make_mechanism({"attention", 0, config(), mesh_, store})->traits();
  }
  // The tokens before `token` whose outputs may not depend on it or on what follows.
  std::int64_t settled_before(std::int64_t token) const {
    const std::int64_t block = config().sparsity.key_block;
    return traits().causality == Causality::strict ? token : token / block * block;
  }
  Mesh mesh_{self_communicator("world"), {}};
  const Tensor tokens_ = random_ids(kSequence, 13, 1), targets_ = random_ids(kSequence, 13, 2);
};

TEST_P(MechanismConformance, LaterTokensLeaveEarlierPredictionsBitIdentical) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    TinyModel tiny(config(), mesh_, dtype);
    const BatchInfo batch = sequences(1, kSequence);
    const Tensor before = tiny.model.log_probabilities(tiny.execution, tokens_, targets_, batch);
    for (const std::int64_t changed : {1, 15, 16, 17, 40, 63, 64, 79, 97, 112, 131}) {
      const Tensor other = tokens_.clone();
      auto* id = other.data<std::int32_t>() + changed;
      *id = (*id + 5) % 13;
      const Tensor after = tiny.model.log_probabilities(tiny.execution, other, targets_, batch);
      EXPECT_EQ(
          std::memcmp(before.raw(), after.raw(),
                      static_cast<std::size_t>(settled_before(changed) * size_of(before.dtype()))),
          0)
          << name_of(dtype) << ", token " << changed;
      EXPECT_NE(std::memcmp(before.raw(), after.raw(), static_cast<std::size_t>(before.bytes())),
                0);
    }
  }
}

TEST_P(MechanismConformance, PrefixesChooseAlike) {
  TinyModel tiny(config(), mesh_);
  const Tensor whole =
      tiny.model.log_probabilities(tiny.execution, tokens_, targets_, sequences(1, kSequence));
  for (const std::int64_t length : {1, 2, 16, 33, 50, 99, 128}) {
    const Tensor prefix = tiny.model.log_probabilities(
        tiny.execution, tokens_.rows(0, length), targets_.rows(0, length), sequences(1, length));
    for (std::int64_t t = 0; t < settled_before(length); ++t)
      ASSERT_NEAR(prefix.data<double>()[t], whole.data<double>()[t], 1e-12)
          << "token " << t << " of " << length;
  }
}

// In chunks that begin and end anywhere in groups and blocks.
TEST_P(MechanismConformance, DecodingGivesTheLogitsOfTheWholeSequence) {
  TinyModel tiny(config(), mesh_);
  DecodeCache cache = tiny.model.make_cache(tiny.execution, kSequence);
  if (!traits().decodes) {
    EXPECT_THROW(tiny.model.decode(tiny.execution, tokens_.rows(0, 5), cache), UserError);
    return;
  }
  std::int64_t at = 0;
  for (const std::int64_t chunk : {37, 1, 1, 9, 1, 16, 3, 20, 31, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1}) {
    const Tensor logits = tiny.model.decode(tiny.execution, tokens_.rows(at, at + chunk), cache);
    at += chunk;
    double sum = 0.0;
    for (const double z : logits.span<double>()) sum += std::exp(z);
    for (std::int32_t v = 0; v < 13; v += 4) {
      const std::vector<std::int32_t> wanted(static_cast<std::size_t>(at), v);
      const Tensor expected =
          tiny.model.log_probabilities(tiny.execution, tokens_.rows(0, at),
                                       Tensor::from<std::int32_t>({at}, wanted), sequences(1, at));
      ASSERT_NEAR(logits.data<double>()[v] - std::log(sum), expected.data<double>()[at - 1], 1e-12)
          << "after token " << at;
    }
  }
  EXPECT_EQ(at, kSequence);
}

TEST_P(MechanismConformance, StatisticsSayWhatWasRead) {
  TinyModel tiny(config(), mesh_);
  std::vector<LayerStatistics> layers(2);
  BatchInfo batch = sequences(1, kSequence);
  batch.step = 1;  // group 0, which has nothing to choose, is not among the sampled
  batch.statistics = &layers;
  tiny.model.log_probabilities(tiny.execution, tokens_, targets_, batch);
  for (const LayerStatistics& layer : layers) {
    EXPECT_EQ(layer.allowed_pairs, 4.0 * kSequence * (kSequence + 1) / 2);
    if (config().mechanism == "dense")
      EXPECT_EQ(layer.density(), 1.0);
    else
      EXPECT_LT(layer.density(), 1.0);
    EXPECT_GT(layer.pairs, 0.0);
    EXPECT_GT(layer.mean_entropy(), 0.0);
    EXPECT_LT(layer.mean_entropy(), 1.0);
    EXPECT_TRUE(std::isfinite(layer.largest_logit));
    if (!mechanism_learns(config().mechanism)) continue;
    EXPECT_GT(layer.recall(), 0.0);
    EXPECT_LE(layer.recall(), 1.0 + 1e-12);
    EXPECT_GE(layer.mean_divergence(), 0.0);
    const SparsityConfig& sparsity = config().sparsity;
    if (sparsity.selection == "top_k" && sparsity.top_k == 1) {
      EXPECT_EQ(layer.forced_share(), 1.0);
    } else {
      EXPECT_GT(layer.forced_share(), 0.0);
      EXPECT_LT(layer.forced_share(), 0.9);
    }
  }
}

// Documents of 3, 50, 16, 27 and 36 tokens: they begin inside and at the edges of blocks and
// groups.
TEST_P(MechanismConformance, PackedDocumentsDoNotLeak) {
  const std::vector<std::int32_t> edges = {0, 3, 53, 69, 96, kSequence};
  BatchInfo packed = sequences(1, kSequence);
  packed.document_begin_T = Tensor::empty({kSequence}, DType::i32);
  packed.document_end_T = Tensor::empty({kSequence}, DType::i32);
  for (std::size_t d = 0; d + 1 < edges.size(); ++d)
    for (std::int32_t t = edges[d]; t < edges[d + 1]; ++t) {
      packed.document_begin_T.data<std::int32_t>()[t] = edges[d];
      packed.document_end_T.data<std::int32_t>()[t] = edges[d + 1];
    }
  for (const DType dtype : {DType::f64, DType::f32}) {
    TinyModel tiny(config(), mesh_, dtype);
    const Tensor before = tiny.model.log_probabilities(tiny.execution, tokens_, targets_, packed);
    for (std::size_t d = 0; d + 1 < edges.size(); ++d) {
      const Tensor other = tokens_.clone();
      for (std::int32_t t = edges[d]; t < edges[d + 1]; ++t) {
        auto* id = other.data<std::int32_t>() + t;
        *id = (*id + 5) % 13;
      }
      const Tensor after = tiny.model.log_probabilities(tiny.execution, other, targets_, packed);
      const auto bytes = [&](const Tensor& all, std::int64_t begin, std::int64_t end) {
        const Tensor part = all.rows(begin, end);
        return std::string(static_cast<const char*>(part.raw()),
                           static_cast<std::size_t>(part.bytes()));
      };
      EXPECT_EQ(bytes(before, 0, edges[d]), bytes(after, 0, edges[d])) << "document " << d;
      EXPECT_NE(bytes(before, edges[d], edges[d + 1]), bytes(after, edges[d], edges[d + 1]));
      EXPECT_EQ(bytes(before, edges[d + 1], kSequence), bytes(after, edges[d + 1], kSequence))
          << name_of(dtype) << ", document " << d;
    }
  }
}

// A sequence of one token sees itself only: every mechanism gives what dense attention gives (the
// head gate, which scales that, is off).
TEST_P(MechanismConformance, OneTokenSequencesEqualDenseAttention) {
  ModelConfig dense = config(), mine = config();
  dense.mechanism = "dense";
  mine.sparsity.head_gate = dense.sparsity.head_gate = false;
  TinyModel tiny(mine, mesh_), expected(dense, mesh_);
  const Tensor tokens = tokens_.rows(0, 3), targets = targets_.rows(0, 3);
  const Tensor got = tiny.model.log_probabilities(tiny.execution, tokens, targets, sequences(3, 1));
  const Tensor want =
      expected.model.log_probabilities(expected.execution, tokens, targets, sequences(3, 1));
  for (std::int64_t t = 0; t < 3; ++t)
    EXPECT_NEAR(got.data<double>()[t], want.data<double>()[t], 1e-12);
}

TEST_P(MechanismConformance, NoSequencesGiveNoPredictions) {
  TinyModel tiny(config(), mesh_);
  const Tensor none = Tensor::empty({0}, DType::i32);
  for (const auto& batch : {sequences(0, kSequence), sequences(1, 0)})
    EXPECT_EQ(tiny.model.log_probabilities(tiny.execution, none, none, batch).numel(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, MechanismConformance, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace

}  // namespace filigree
