// Hugging Face folders as runs: what is in memory meanwhile, and what is refused before it is read.
#include "conversion/import_hugging_face.hpp"

#include <algorithm>

#include "checkpoint/checkpoint.hpp"
#include "conversion/model_description.hpp"
#include "conversion/model_weights.hpp"
#include "data_pipeline/tokenizer_trainer.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/conversion/conversion_helpers.hpp"

namespace filigree {
namespace {

using testing::same_bits;
using testing::user_error;

class Import : public testing::FolderTest {
 protected:
  void SetUp() override {
    TokenizerTrainer trainer({.vocabulary = 330});
    for (int i = 0; i < 50; ++i)
      trainer.add("the quick brown fox jumps over the lazy dog while the slow fox sleeps\n");
    const Tokenizer tokenizer = trainer.train();
    model_.layers = 8;
    model_.width = 256;
    model_.heads = 4;
    model_.kv_heads = 2;
    model_.sequence = 64;
    model_.tied_embeddings = true;
    model_ = model_.resolved(tokenizer.vocabulary());
    std::filesystem::create_directory(source_);
    const auto description = describe_model(model_, Architecture::llama, {}, DType::f32);
    write_file_atomically(source_ / "config.json", description.dump());
    write_file_atomically(source_ / "tokenizer.model", tokenizer.bytes());
    for (const ModelWeight& weight : model_weights(model_)) add(weight.hugging_face, weight.shape);
    write();
  }

  // Values that depend on `seed` only.
  void add(const std::string& name, const Shape& shape, const std::string& seed = "") {
    weights_.push_back({name, DType::f32, shape, [shape, seed = seed.empty() ? name : seed] {
                          return testing::random_bits(shape, DType::f32, hash_text(seed));
                        }});
  }
  void write() {
    std::filesystem::remove(source_ / "model.safetensors");
    write_weights(source_, "model", weights_, std::int64_t{1} << 40);
  }

  HuggingFaceImport take(const ConversionProgress& progress = {}) {
    return import_hugging_face(source_, run_, {.progress = progress}, [](const RunConfig&) {
      return ConfigText{"[model]\n", "0123456789abcdef"};
    });
  }

  std::int64_t bytes_of_largest() const {
    std::int64_t most = 0;
    for (const PromisedTensor& weight : weights_) most = std::max(most, weight.bytes());
    return most;
  }

  ModelConfig model_;
  std::vector<PromisedTensor> weights_;
  std::filesystem::path source_ = folder_ / "model", run_ = folder_ / "run";
};

std::int64_t live_bytes() {
  for (const MemoryRow& row : host_allocator()->table())
    if (row.name == "total") return row.live_bytes;
  return 0;
}

TEST_F(Import, OneWeightIsInMemoryAtATime) {
  add("lm_head.weight", {model_.vocabulary, model_.width}, "model.embed_tokens.weight");
  write();
  // As read and as converted, in blocks of the allocator that may be a quarter larger, and 2^16
  // values of each as f64, to see what was too large.
  const std::int64_t allowed = 2 * bytes_of_largest() * 5 / 4 + (1 << 20) + (64 << 10);
  ASSERT_GT(4 * model_.parameters(), 5 * allowed);
  const std::int64_t live = live_bytes(), peak = host_allocator()->peak_bytes();
  std::int64_t calls = 0;
  take([&](std::int64_t done, std::int64_t total) {
    ++calls;
    EXPECT_LT(done, total);
    EXPECT_LE(live_bytes(), live + (64 << 10)) << "weights that are written are kept";
  });
  EXPECT_EQ(calls, std::ssize(model_weights(model_)));
  EXPECT_LE(host_allocator()->peak_bytes(), std::max(peak, live + allowed));

  const CheckpointReader reader(run_ / "checkpoints" / "step_00000000");
  for (const ModelWeight& weight : model_weights(model_)) {
    const Tensor values = Tensor::empty(weight.shape, DType::f32);
    reader.read({"parameters/" + weight.parameter, values, weight.shape,
                 std::vector<std::int64_t>(weight.shape.sizes().size(), 0)});
    EXPECT_TRUE(same_bits(
        values, testing::random_bits(weight.shape, DType::f32, hash_text(weight.hugging_face))))
        << weight.parameter;
  }
}

TEST_F(Import, WhatDoesNotFitIsRefusedBeforeAnyWeightIsRead) {
  const auto refusal = [&] {
    write();
    const std::string error = user_error(
        [&] { take([](std::int64_t, std::int64_t) { ADD_FAILURE() << "a weight was read"; }); });
    EXPECT_FALSE(std::filesystem::exists(run_));
    return error;
  };
  const auto expect = [](const std::string& error, const std::string& part) {
    EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  const std::vector<PromisedTensor> good = weights_;
  weights_.back().shape = {7};
  weights_.back().make = [] { return Tensor::zeros({7}, DType::f32); };
  expect(refusal(), "has shape [7], config.json makes it");

  weights_ = good;
  weights_.pop_back();
  expect(refusal(), "has no tensor '" + good.back().name + "'");

  weights_ = good;
  add("model.layers.0.extra", {2});
  expect(refusal(), "tensor 'model.layers.0.extra' of shape [2] is not part of the model");

  // In the last of several pieces.
  weights_ = good;
  add("lm_head.weight", {model_.vocabulary, model_.width}, "model.embed_tokens.weight");
  weights_.back().make = [make = weights_.back().make] {
    const Tensor values = make();
    *(static_cast<std::uint8_t*>(values.raw()) + values.bytes() - 1) ^= 1;
    return values;
  };
  expect(refusal(), "lm_head.weight differs from model.embed_tokens.weight");
}

}  // namespace
}  // namespace filigree
