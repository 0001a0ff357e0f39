// Small tokenizers of the byte-level BPE kind, as tokenizer.json.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data_pipeline/tokenizers/byte_names.hpp"

namespace filigree::test {

// By GGUF's name, copied from the tokenizer.json of gpt2, Meta-Llama-3-8B and Qwen2-7B.
inline const std::map<std::string, std::string> kSplitPatterns = {
    {"gpt-2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {"llama-bpe",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}};

// Ids: the bytes in the order of their characters ('!' is 0), what the merges make, further pieces,
// and "<|end|>", which is special.
inline nlohmann::json byte_level_json(const std::vector<std::string>& merges,
                                      const std::vector<std::string>& pieces = {},
                                      const std::string& splits = "llama-bpe") {
  using nlohmann::json;
  std::vector<std::string> names;
  for (int byte = 0; byte < 256; ++byte)
    names.push_back(name_of_byte(static_cast<std::uint8_t>(byte)));
  // By code point, which is the order of the bytes of UTF-8.
  std::sort(names.begin(), names.end());
  for (const std::string& merge : merges) {
    const std::size_t space = merge.find(' ');
    names.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  names.insert(names.end(), pieces.begin(), pieces.end());
  json vocabulary = json::object();
  for (const std::string& name : names) vocabulary.emplace(name, vocabulary.size());
  json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  json pre_tokenizer = byte_level;
  if (splits != "gpt-2") {
    byte_level["use_regex"] = false;
    pre_tokenizer = {
        {"type", "Sequence"},
        {"pretokenizers", json::array({{{"type", "Split"},
                                        {"pattern", {{"Regex", kSplitPatterns.at(splits)}}},
                                        {"behavior", "Isolated"},
                                        {"invert", false}},
                                       byte_level})}};
  }
  const std::size_t end = vocabulary.size();
  return {{"version", "1.0"},
          {"added_tokens", json::array({{{"id", end}, {"content", "<|end|>"}, {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", pre_tokenizer},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary},
            {"merges", merges}}}};
}

}  // namespace filigree::test
