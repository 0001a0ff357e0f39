#include "layers/language_model.hpp"

#include "kernels/elementwise/elementwise.hpp"

namespace filigree {
namespace {

std::vector<TransformerBlock> make_blocks(const ModelConfig& config, const Mesh& mesh,
                                          ParameterStore& store) {
  std::vector<TransformerBlock> blocks;
  for (std::int64_t i = 0; i < config.layers; ++i) blocks.emplace_back(i, config, mesh, store);
  return blocks;
}

const ModelConfig& checked(const ModelConfig& config, const Mesh& mesh) {
  config.check_tensor_parallel(mesh.size(Axis::tensor));
  return config;
}

// Tokens are split by rows over the data axis and the same on every tensor rank.
Variable as_variable(const Tensor& tokens) {
  return Variable(tokens, Placements().with(Axis::data, Placement::sharded(0)));
}

}  // namespace

LanguageModel::LanguageModel(const ModelConfig& config, const Mesh& mesh, ParameterStore& store)
    : config_(checked(config, mesh)),
      mesh_(mesh),
      store_(store),
      embedding_(
          "embedding", config.vocabulary, config.width,
          config.embedding_deviation > 0.0 ? config.embedding_deviation : config.initial_deviation,
          mesh, store),
      blocks_(make_blocks(config, mesh, store)),
      norm_("norm", config.width, config.norm_eps, mesh, store) {
  if (!config.tied_embeddings)
    head_.emplace("head", config.vocabulary, config.width, config.initial_deviation, mesh, store);
}

void LanguageModel::weights_changed(WeightChange change, ExecutionContext& execution) {
  for (TransformerBlock& block : blocks_) block.weights_changed(change, execution);
  // Some layers write initial values of their own.
  if (change == WeightChange::initialised) store_.refresh_compute(execution);
}

Variable LanguageModel::hidden(Tape& tape, const Tensor& tokens, const BatchInfo& host) const {
  const BatchInfo batch = host.uploaded(tape.execution());
  Variable x =
      embedding_.lookup(tape, as_variable(tape.execution().upload(tokens, MemoryUse::data)));
  x = apply_dropout(tape, x, config_.dropout, 0, batch);
  for (const TransformerBlock& block : blocks_) x = block.forward(tape, x, batch);
  return x;
}

Variable LanguageModel::logits(Tape& tape, const Variable& x) const {
  return output_table().logits(tape, copy_to_tensor_parallel(tape, norm_.forward(tape, x), mesh_));
}

Variable LanguageModel::loss_sum(Tape& tape, const Tensor& tokens, const Tensor& targets,
                                 const BatchInfo& batch) const {
  return vocab_parallel_cross_entropy(tape, logits(tape, hidden(tape, tokens, batch)),
                                      tape.execution().upload(targets, MemoryUse::data),
                                      output_table().first_row(), mesh_);
}

Tensor LanguageModel::log_probabilities(ExecutionContext& execution, const Tensor& tokens,
                                        const Tensor& targets, const BatchInfo& batch) const {
  Tape tape(execution, Tape::Mode::inference);
  return vocab_parallel_log_probabilities(
      execution, logits(tape, hidden(tape, tokens, batch)).value(),
      execution.upload(targets, MemoryUse::data), output_table().first_row(), mesh_);
}

void LanguageModel::gather_logits(ExecutionContext& execution, const Tensor& local,
                                  const Tensor& all) const {
  const VocabParallelEmbedding& table = output_table();
  dispatch<Scale>({.x = local.view({table.local_rows()}),
                   .y = all.rows(table.first_row(), table.first_row() + table.local_rows())},
                  execution);
  mesh_.on(Axis::tensor).all_reduce(all);
}

Tensor LanguageModel::all_logits(ExecutionContext& execution, const Tensor& tokens,
                                 const BatchInfo& batch) const {
  Tape tape(execution, Tape::Mode::inference);
  const Tensor local = logits(tape, hidden(tape, tokens, batch)).value();
  const std::int64_t count = tokens.numel();
  const Tensor all =
      execution.zeros({count, config_.vocabulary}, accumulation_dtype(local.dtype()));
  for (std::int64_t t = 0; t < count; ++t)
    gather_logits(execution, local.rows(t, t + 1), all.rows(t, t + 1).view({config_.vocabulary}));
  return all;
}

DecodeCache LanguageModel::make_cache(ExecutionContext& execution, std::int64_t capacity) const {
  const std::int64_t groups =
      std::max<std::int64_t>(1, config_.kv_heads / mesh_.size(Axis::tensor));
  const DType dtype = store_.compute().dtype();
  DecodeCache cache;
  cache.capacity = capacity;
  for (std::int64_t i = 0; i < config_.layers; ++i)
    cache.layers.push_back(
        {execution.empty({capacity, groups * config_.head_dim}, dtype, MemoryUse::cache),
         execution.empty({capacity, groups * config_.head_dim}, dtype, MemoryUse::cache)});
  return cache;
}

Tensor LanguageModel::decode(ExecutionContext& execution, const Tensor& tokens,
                             DecodeCache& cache) const {
  Tape tape(execution, Tape::Mode::inference);
  BatchInfo batch;
  batch.batch = 1;
  batch.length = tokens.numel();
  batch.positions_T = execution.upload(sequential_positions(1, batch.length, cache.length));
  Variable x = embedding_.lookup(tape, as_variable(execution.upload(tokens)));
  for (const TransformerBlock& block : blocks_) x = block.decode(tape, x, batch, cache);
  cache.length += batch.length;
  const Variable last(x.value().rows(batch.length - 1, batch.length), x.placements());
  const Tensor local = logits(tape, last).value();
  const Tensor all = execution.zeros({config_.vocabulary}, accumulation_dtype(local.dtype()));
  gather_logits(execution, local, all);
  return all;
}

}  // namespace filigree
