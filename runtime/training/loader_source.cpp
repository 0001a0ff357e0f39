#include "runtime/training/loader_source.hpp"

namespace filigree {
namespace {

BatchLoader::Options loader_options(const RunConfig& config, const Mesh& mesh,
                                    std::int64_t steps_done) {
  const ShardRange share = batch_share(config.train.batch, mesh);
  BatchLoader::Options options;
  options.length = config.model.sequence;
  options.global_batch = config.train.batch;
  options.begin = share.begin;
  options.end = share.end;
  options.micro_batch = micro_batch_rows(config.train, share);
  options.first_step = steps_done;
  return options;
}

Sampler sampler_of(const TokenDataset& train, const RunConfig& config) {
  check_one_window(train, config.model.sequence);
  return Sampler(window_count(train.tokens(), config.model.sequence), config.train.seed);
}

}  // namespace

LoaderSource::LoaderSource(const TokenDataset& train, const RunConfig& config, const Mesh& mesh,
                           std::int64_t steps_done)
    : loader_(train, sampler_of(train, config), loader_options(config, mesh, steps_done)) {}

void check_one_window(const TokenDataset& dataset, std::int64_t length) {
  if (dataset.tokens() > length) return;
  throw UserError(str("the train split in ", dataset.folder(), " has ", dataset.tokens(),
                      " tokens, less than one window of model.sequence + 1 = ", length + 1,
                      "; tokenize more text or shorten model.sequence"));
}

}  // namespace filigree
