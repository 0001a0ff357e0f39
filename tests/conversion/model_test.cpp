// Names, descriptions and tokenizers of models in the words of others.
#include <set>

#include "conversion/export_gguf.hpp"
#include "conversion/model_description.hpp"
#include "conversion/model_weights.hpp"
#include "conversion/python_files.hpp"
#include "conversion/sentencepiece_model.hpp"
#include "conversion/tokenizer_files.hpp"
#include "data_pipeline/tokenizer_trainer.hpp"
#include "layers/sparsity/registry.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/conversion/conversion_helpers.hpp"

namespace filigree {
namespace {

using nlohmann::json;
using testing::user_error;

ModelConfig small(const std::string& mechanism = "dense") {
  ModelConfig config;
  config.vocabulary = 40;
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = 2;
  config.sequence = 64;
  config.mechanism = mechanism;
  config.sparsity.key_block = config.sparsity.query_group = 16;
  config.sparsity.window = mechanism == "sliding_window" ? 24 : 0;
  return config.resolved(0);
}

TEST(ModelWeights, EveryParameterHasANameOfItsOwn) {
  for (const std::string& mechanism : mechanism_names()) {
    ModelConfig config = small(mechanism);
    config.qk_norm = config.qkv_bias = config.output_gate = true;
    config.sigma_reparam = "all";
    config.tied_embeddings = false;
    if (mechanism == "adaptive") config.sparsity.head_gate = true;
    const auto weights = model_weights(config);
    std::set<std::string> names;
    std::int64_t elements = 0;
    for (const ModelWeight& weight : weights) {
      names.insert(weight.hugging_face);
      elements += weight.shape.numel();
    }
    EXPECT_EQ(names.size(), weights.size());
    // All that trains but the factor of each of the eight linear layers of a block.
    EXPECT_EQ(elements, config.parameters() - 8 * config.layers) << mechanism;
    EXPECT_TRUE(names.contains("lm_head.weight"));
    EXPECT_TRUE(names.contains("model.layers.1.self_attn.k_proj.bias"));
    EXPECT_TRUE(names.contains("model.layers.0.mlp.gate_proj.weight"));
    EXPECT_EQ(names.contains("model.layers.0.self_attn.gate.key.weight"),
              mechanism_learns(mechanism));
  }
}

TEST(ModelDescription, TheStockClassThatFits) {
  EXPECT_EQ(architecture_of(small()), Architecture::llama);
  EXPECT_EQ(architecture_of(small("sliding_window")), Architecture::mistral);
  ModelConfig config = small();
  config.sigma_reparam = "all";
  EXPECT_EQ(architecture_of(config), Architecture::llama);
  config.qk_norm = true;
  EXPECT_EQ(architecture_of(config), Architecture::qwen3);
  config.qkv_bias = true;
  EXPECT_EQ(architecture_of(config), Architecture::filigree);
  config.qk_norm = false;
  EXPECT_EQ(architecture_of(config), Architecture::qwen2);
  config.output_gate = true;
  EXPECT_EQ(architecture_of(config), Architecture::filigree);
  config = small("sliding_window");
  config.sparsity.sinks = 4;
  EXPECT_EQ(architecture_of(config), Architecture::filigree);
  for (const char* mechanism : {"adaptive", "seer", "deepspeed_fixed", "s2_strided"})
    EXPECT_EQ(architecture_of(small(mechanism)), Architecture::filigree) << mechanism;
}

TEST(ModelDescription, ComesBackAsItWas) {
  std::vector<ModelConfig> configs(6, small());
  configs[0].tied_embeddings = false;
  configs[1] = small("sliding_window");
  configs[2].qkv_bias = true;
  configs[3].qk_norm = true;
  configs[4].rope_scaling = "linear";
  configs[4].rope_factor = 2.5;
  configs[5].rope_scaling = "llama3";
  configs[5].rope_factor = 8.0;
  configs[5].rope_low_turns = 1.5;
  configs[5].rope_high_turns = 3.0;
  configs[5].rope_original_sequence = 24;
  for (ModelConfig config : configs) {
    config.norm_eps = 2e-6;
    config.rope_theta = 12345.0;
    const auto text = describe_model(config, architecture_of(config), {}, DType::bf16).dump();
    const ModelConfig back = model_from_description(json::parse(text), "config.json");
    EXPECT_EQ(describe_model(back, architecture_of(back), {}, DType::bf16).dump(), text);
    EXPECT_EQ(back.parameters(), config.parameters());
    EXPECT_EQ(back.mechanism, config.mechanism);
    EXPECT_EQ(back.sparsity.window, config.sparsity.window);
  }
}

class Refusals : public testing::FolderTest {
 protected:
  // What is said of a Llama's description with these changes.
  static std::string refusal(const json& changes) {
    json description =
        json::parse(describe_model(small(), Architecture::llama, {}, DType::f32).dump());
    description.update(changes);
    return user_error([&] { model_from_description(description, "DIR/config.json"); });
  }
};

TEST_F(Refusals, WhatFiligreeDoesNotComputeIsNamed) {
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"model_type", "gemma2"}}, "model_type = 'gemma2' is not supported; llama, mistral"},
      {{{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}}}, "rope_scaling = {"},
      {{{"rope_scaling", {{"type", "linear"}}}}, "rope_scaling = {"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", "2"}}}}, "rope_scaling = {"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}}}, "model.rope_factor = 0.5"},
      {{{"rope_scaling",
         {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 4.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 32}}}},
       "model.rope_low_turns = 4"},
      {{{"rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}}}}, "rope_parameters"},
      {{{"hidden_act", "gelu"}}, "hidden_act = \"gelu\": only silu"},
      {{{"attention_bias", true}}, "attention_bias = true"},
      {{{"mlp_bias", true}}, "mlp_bias = true"},
      {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor = 0.5"},
      {{{"quantization_config", {{"bits", 4}}}}, "quantization_config"},
      {{{"hidden_size", "x"}}, "hidden_size = \"x\": must be a positive whole number"},
      {{{"num_hidden_layers", -2}}, "num_hidden_layers = -2"},
      {{{"num_hidden_layers", 0}}, "num_hidden_layers = 0"},
      {{{"num_hidden_layers", 1'000'000'000'000}}, "num_hidden_layers = 1000000000000: must be"},
      {{{"hidden_size", ~std::uint64_t{0}}}, "hidden_size = 18446744073709551615: must be"},
      {{{"num_key_value_heads", 3}}, "model.kv_heads = 3"},
      {{{"model_type", "qwen2"}, {"use_sliding_window", true}}, "use_sliding_window = true"},
      {{{"model_type", "qwen3"},
        {"layer_types", json::array({"full_attention", "sliding_attention"})}},
       "layer_types"}};
  for (const auto& [changes, expected] : cases) {
    const std::string error = refusal(changes);
    EXPECT_NE(error.find(expected), std::string::npos) << changes << ": " << error;
  }
  const std::string both = refusal({{"hidden_act", "relu"}, {"mlp_bias", true}});
  EXPECT_NE(both.find("hidden_act"), std::string::npos) << both;
  EXPECT_NE(both.find("mlp_bias"), std::string::npos) << both;
  EXPECT_EQ(refusal({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}),
            testing::kNoUserError);
  EXPECT_NE(refusal({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", "5e5"}}}})
                .find("its rope_theta must be a positive number"),
            std::string::npos);
  EXPECT_EQ(refusal({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
            testing::kNoUserError);
}

TEST(ModelDescription, AMistralHasAWindowUnlessItSaysThatItHasNone) {
  json description = json::parse(
      describe_model(small("sliding_window"), Architecture::mistral, {}, DType::f32).dump());
  description.erase("sliding_window");
  EXPECT_EQ(model_from_description(description, "config.json").sparsity.window, 4096);
  description["sliding_window"] = nullptr;
  EXPECT_EQ(model_from_description(description, "config.json").mechanism, "dense");
}

Tokenizer trained_tokenizer() {
  TokenizerTrainer trainer({.vocabulary = 330});
  for (int i = 0; i < 50; ++i)
    trainer.add("the quick brown fox jumps over the lazy dog while the slow fox sleeps\n");
  return trainer.train();
}

class SentencePieceFile : public testing::HostileFileTest {};

TEST_F(SentencePieceFile, SaysWhatTheLibrarySays) {
  const Tokenizer tokenizer = trained_tokenizer();
  const SentencePieceModel model = parse_sentencepiece_model(tokenizer.bytes(), "test");
  ASSERT_EQ(std::ssize(model.pieces), tokenizer.vocabulary());
  EXPECT_EQ(model.algorithm, SentencePieceAlgorithm::bpe);
  EXPECT_FALSE(model.adds_dummy_prefix);
  for (std::int32_t id = 0; id < tokenizer.vocabulary(); ++id) {
    const SentencePiece& piece = model.pieces[static_cast<std::size_t>(id)];
    EXPECT_EQ(piece.type == PieceType::byte, tokenizer.is_byte(id)) << id;
    EXPECT_EQ(piece.type == PieceType::unknown, tokenizer.is_unknown(id)) << id;
  }
  EXPECT_EQ(model.pieces[static_cast<std::size_t>(tokenizer.end_of_document())].text, "</s>");
}

TEST_F(SentencePieceFile, DamagedOnesAreRefused) {
  const std::string bytes = trained_tokenizer().bytes();
  expect_no_harm(bytes, [](const std::filesystem::path& changed) {
    parse_sentencepiece_model(read_file(changed), changed.string());
  });
  EXPECT_THROW(parse_sentencepiece_model("", "empty"), UserError);
  EXPECT_THROW(parse_sentencepiece_model(std::string(20, '\xff'), "varint"), UserError);
}

TEST_F(SentencePieceFile, ADummyPrefixCanBeTakenAway) {
  const std::string bytes = trained_tokenizer().bytes();
  // normalizer_spec { add_dummy_prefix: true } after what the file says.
  const std::string prefixed = bytes + std::string("\x1a\x02\x18\x01", 4);
  EXPECT_TRUE(parse_sentencepiece_model(prefixed, "test").adds_dummy_prefix);
  EXPECT_THROW(Tokenizer::from_bytes(prefixed, "test"), UserError);  // it changes text
  const std::string plain = without_dummy_prefix(prefixed);
  EXPECT_FALSE(parse_sentencepiece_model(plain, "test").adds_dummy_prefix);
  const std::string text = "the lazy fox";
  EXPECT_EQ(Tokenizer::from_bytes(plain, "test").encode(text),
            Tokenizer::from_bytes(bytes, "test").encode(text));
}

// Byte pair encoding as tokenizers does it: of all neighbours the pair that stands first in the
// list of merges, the leftmost of equal ones.
std::vector<std::int32_t> encode_by_merges(const json& model, const std::string& text) {
  std::vector<std::string> parts;
  for (const char byte : text) parts.push_back(byte == ' ' ? "\xE2\x96\x81" : std::string(1, byte));
  std::map<std::string, std::size_t> rank;
  for (std::size_t i = 0; i < model["merges"].size(); ++i) rank[model["merges"][i]] = i;
  for (;;) {
    std::size_t best = rank.size(), at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      if (const auto found = rank.find(parts[i] + " " + parts[i + 1]);
          found != rank.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    if (best == rank.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<std::int32_t> ids;
  for (const std::string& part : parts) ids.push_back(model["vocab"].at(part));
  return ids;
}

TEST(TokenizerFiles, MergesGiveTheIdsOfSentencePiece) {
  const Tokenizer tokenizer = trained_tokenizer();
  const json written = json::parse(tokenizer_json(tokenizer).dump());
  for (const std::string text : {"the quick brown fox", "over the lazy dog while the",
                                 "foxes  jump", "slow fox sleeps over"})
    EXPECT_EQ(encode_by_merges(written["model"], text), tokenizer.encode(text)) << text;
  EXPECT_EQ(written["added_tokens"].size(), 3u);  // <unk>, <s>, </s>
}

TEST(PythonFiles, AreInTheProgram) {
  std::set<std::string_view> names;
  for (const PythonFile& file : python_files()) {
    names.insert(file.name);
    EXPECT_NE(file.text.find("class Filigree"), std::string_view::npos) << file.name;
    EXPECT_EQ(file.text.back(), '\n');
  }
  EXPECT_EQ(names,
            (std::set<std::string_view>{"configuration_filigree.py", "modeling_filigree.py"}));
}

}  // namespace
}  // namespace filigree
