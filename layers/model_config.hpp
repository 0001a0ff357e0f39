// The shape of a Llama-style decoder.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/rope/rotary_frequencies.hpp"
#include "layers/sparsity/sparsity_config.hpp"

namespace filigree {

struct ModelConfig {
  std::int64_t vocabulary = 0;      // V; 0: take the tokenizer's
  std::int64_t layers = 6;          // L
  std::int64_t width = 256;         // D
  std::int64_t heads = 4;           // H
  std::int64_t kv_heads = 0;        // G; 0: as many as heads
  std::int64_t head_dim = 0;        // K; 0: width / heads
  std::int64_t feed_forward = 0;    // F; 0: 8/3 of the width, rounded up to a multiple of 32
  std::int64_t sequence = 1024;     // S, longest sequence trained on
  std::string mechanism = "dense";  // attention mechanism
  bool tied_embeddings = true;      // the output matrix is the embedding table
  double rope_theta = 10000.0;
  std::string rope_scaling = "none";  // none | linear | llama3: of a model stretched after training
  double rope_factor = 1.0;
  double rope_low_turns = 1.0, rope_high_turns = 4.0;  // of llama3
  std::int64_t rope_original_sequence = 8192;          // of llama3
  double norm_eps = 1e-5;
  double initial_deviation = 0.02;
  double embedding_deviation = 0.0;  // of the embedding table at the start; 0: initial_deviation
  double dropout = 0.0;              // on the embedding and on both branches of every block
  std::string recompute = "none";    // none | attention | block: what backward computes again
  bool qkv_bias = false;             // queries, keys and values are projected with a bias
  // What keeps training stable at high learning rates; README.md of this folder has the formulas.
  bool qk_norm = false;                // RMSNorm of every query and key head
  bool output_gate = false;            // sigmoid gate on the attended values
  std::string sigma_reparam = "none";  // none | attention | all: linear layers with sigmaReparam
  SparsityConfig sparsity;             // what the mechanism is told

  // Of resolved sizes.
  RotaryFrequencies rotary() const;
  // Linear layers of a block's attention; every linear layer of a block.
  bool reparametrises_attention() const { return sigma_reparam != "none"; }
  bool reparametrises_feed_forward() const { return sigma_reparam == "all"; }

  // The same with every 0 that stands for a derived value replaced. Throws UserError naming each
  // size that does not fit.
  ModelConfig resolved(std::int64_t tokenizer_vocabulary) const;
  // Throws UserError when heads cannot be split over `tensor_ranks`.
  void check_tensor_parallel(int tensor_ranks) const;

  std::int64_t parameters() const;  // that a whole model trains; needs resolved()
  // Floating-point operations of the model per token of a forward pass with full causal attention
  // at sequence length S, counting a multiply-add as two. A training step costs three times this.
  double forward_flops_per_token(std::int64_t sequence_length) const;
};

}  // namespace filigree
