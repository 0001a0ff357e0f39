// The weights of a model under our names and under those of Hugging Face.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "conversion/weight_files.hpp"
#include "layers/model_config.hpp"

namespace filigree {

struct ModelWeight {
  std::string parameter;     // "blocks.3.attention.query.weight"
  std::string hugging_face;  // "model.layers.3.self_attn.q_proj.weight"
  Shape shape;               // [outputs, inputs] in both
  bool gate = false;         // of a learned choice of blocks
};

// The beginnings of our names of parameters, without "blocks.N.", beside those of others.
using NamePairs = std::span<const std::pair<std::string_view, std::string_view>>;

// "blocks.3.attention.query.weight" with the pair attention.query., attn_q. and blocks "blk." is
// "blk.3.attn_q.weight".
std::string renamed(std::string_view parameter, NamePairs names, std::string_view blocks);

// Of a resolved configuration, in the order of the layers. Without what sigmaReparam keeps beside
// its weights.
std::vector<ModelWeight> model_weights(const ModelConfig& config);

// Parameter `parameter` of the checkpoint, in `dtype` and named `name`. Where it is reparametrised
// (layers/sigma_reparam.hpp), gamma / sigma W, which is what the layer computes with.
PromisedTensor promised_parameter(const CheckpointReader& reader, const std::string& parameter,
                                  const std::string& name, DType dtype);

}  // namespace filigree
