#include "runtime/training/metrics.hpp"

#include <cmath>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

using Json = nlohmann::ordered_json;

std::string with_unit(double value, double base, const std::vector<const char*>& units) {
  std::size_t unit = 0;
  while (std::abs(value) >= base && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  return fixed(value, 1) + units[unit];
}

std::string formatted(double value, int digits, std::ios_base& (*style)(std::ios_base&)) {
  std::ostringstream out;
  out << style << std::setprecision(digits) << value;
  return out.str();
}

}  // namespace

std::string fixed(double value, int digits) { return formatted(value, digits, std::fixed); }
std::string scientific(double value, int digits) {
  return formatted(value, digits, std::scientific);
}

std::string readable_bytes(double bytes) {
  return with_unit(bytes, 1024.0, {" B", " KiB", " MiB", " GiB", " TiB"});
}

std::string readable_count(double value) {
  return with_unit(value, 1000.0, {"", "k", "M", "G", "T", "P"});
}

std::string readable_time(double seconds) {
  const auto total = static_cast<std::int64_t>(std::max(0.0, std::round(seconds)));
  std::ostringstream out;
  out << total / 3600 << std::setfill('0') << ':' << std::setw(2) << total / 60 % 60 << ':'
      << std::setw(2) << total % 60;
  return out.str();
}

namespace {

Json to_json(const LayerStatistics& layer) {
  return Json{{"density", layer.density()},
              {"forced_share", layer.forced_share()},
              {"recall", layer.recall()},
              {"heads_skipped", layer.skipped_share()},
              {"recall_random", layer.recall_random()},
              {"recall_mean_pooled", layer.recall_mean_pooled()},
              {"entropy", layer.mean_entropy()},
              {"largest_logit", layer.largest_logit},
              {"kl", layer.mean_divergence()}};
}

void add_layers_to(Json& line, const std::vector<LayerStatistics>& layers) {
  if (layers.empty()) return;
  Json& rows = line["layers"] = Json::array();
  for (const LayerStatistics& layer : layers) rows.push_back(to_json(layer));
}

}  // namespace

nlohmann::ordered_json to_json(const StepReport& report) {
  const StepTiming& timing = report.timing;
  Json line{{"kind", "step"},
            {"step", report.step},
            {"loss", report.loss},
            {"learning_rate", report.learning_rate},
            {"gradient_norm", report.gradient_norm},
            {"tokens", report.tokens},
            {"skipped", report.skipped},
            {"executed_flops", report.executed_flops},
            {"dense_flops", report.dense_flops},
            {"gate_flops", report.gate_flops}};
  add_layers_to(line, report.layers);
  line["timing"] = Json{{"seconds", timing.seconds},
                        {"communication_seconds", timing.communication_seconds},
                        {"data_wait_seconds", timing.data_wait_seconds},
                        {"attention_seconds", timing.attention_seconds},
                        {"gate_seconds", timing.gate_seconds},
                        {"teacher_seconds", timing.teacher_seconds},
                        {"tokens_per_second", timing.tokens_per_second},
                        {"model_flops_per_second", timing.model_flops_per_second},
                        {"peak_bytes", timing.peak_bytes},
                        {"reserved_bytes", timing.reserved_bytes},
                        {"system_allocations", timing.system_allocations}};
  return line;
}

nlohmann::ordered_json to_json(const ValidationReport& report) {
  Json line{{"kind", "validation"},
            {"step", report.step},
            {"loss", report.loss},
            {"perplexity", report.perplexity},
            {"bits_per_byte", report.bits_per_byte},
            {"tokens", report.tokens}};
  add_layers_to(line, report.layers);
  line["timing"] = Json{{"seconds", report.seconds}};
  return line;
}

nlohmann::ordered_json to_json(const CheckpointReport& report) {
  Json line{{"kind", "checkpoint"}, {"step", report.step}};
  if (report.failure.empty())
    line["bytes"] = report.bytes;
  else
    line["failure"] = report.failure;
  line["timing"] =
      Json{{"pause_seconds", report.pause_seconds}, {"total_seconds", report.total_seconds}};
  return line;
}

void add_layers(std::vector<LayerStatistics>& sums, const std::vector<LayerStatistics>& more) {
  FILIGREE_CHECK_EQ(sums.size(), more.size(), "measured layers");
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i].add(more[i]);
}

std::string sparsity_text(const std::vector<LayerStatistics>& layers) {
  if (layers.empty()) return "";
  LayerStatistics all;
  for (const LayerStatistics& layer : layers) all.add(layer);
  std::string text;
  if (all.blocks > 0 || all.pairs < all.allowed_pairs)
    text += str(" | density ", fixed(all.density(), 3));
  if (all.caught_rows > 0)
    text +=
        str(" | recall ", fixed(all.recall(), 3), " (mean-pooled ",
            fixed(all.recall_mean_pooled(), 3), ", random ", fixed(all.recall_random(), 3), ')');
  if (all.head_choices > 0) text += str(" | heads skipped ", fixed(all.skipped_share(), 3));
  if (all.divergence_rows > 0) text += str(" | kl ", fixed(all.mean_divergence(), 4));
  return text;
}

MetricsFile::MetricsFile(PosixFile file, Warn warn)
    : file_(std::move(file)), warn_(std::move(warn)), end_(file_.size()) {}

MetricsFile MetricsFile::create(const std::filesystem::path& file, const std::string& config_hash,
                                Warn warn, FileSystem& system) {
  MetricsFile metrics(PosixFile::create(file, system), std::move(warn));
  metrics.append(Json{{"kind", "run"}, {"schema", kMetricsSchema}, {"config_hash", config_hash}});
  return metrics;
}

MetricsFile MetricsFile::resume(const std::filesystem::path& file, std::int64_t step, Warn warn,
                                FileSystem& system) {
  std::ifstream in(file);
  if (!in) throw UserError(str("cannot read ", file, ", which the run to resume should have"));
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (row.is_discarded() || !row.is_object()) break;
    const Json of_step = row.value("step", Json(0));
    if (!of_step.is_number_integer()) break;
    if (of_step > step) continue;  // not the end: a checkpoint's line may follow
    kept += line + '\n';
  }
  in.close();
  write_file_atomically(file, kept, system);
  return {PosixFile::open_for_writing(file, system), std::move(warn)};
}

void MetricsFile::write(const StepReport& report) { write_line(to_json(report)); }
void MetricsFile::write(const ValidationReport& report) { write_line(to_json(report)); }
void MetricsFile::write(const CheckpointReport& report) { write_line(to_json(report)); }

void MetricsFile::append(const nlohmann::ordered_json& line) {
  const std::string text = line.dump() + '\n';
  file_.write_at(end_, text.data(), std::ssize(text));
  end_ += std::ssize(text);
}

void MetricsFile::write_line(const nlohmann::ordered_json& line) {
  try {
    append(line);
  } catch (const UserError& error) {
    std::error_code ignored;  // where a part cannot be cut off, the next line stands in its place
    std::filesystem::resize_file(file_.path(), static_cast<std::uintmax_t>(end_), ignored);
    if (++lost_ == 1) warn_(str(error.what(), "; the run goes on without its metrics until then"));
    return;
  }
  if (lost_ > 0) warn_(str(file_.path().string(), " is written again; lines lost: ", lost_));
  lost_ = 0;
}

namespace {

// "61.2% of dense work | " where blocks were skipped.
std::string skipped_share(const StepReport& report) {
  if (report.executed_flops >= report.dense_flops) return "";
  const double share =
      static_cast<double>(report.executed_flops) / static_cast<double>(report.dense_flops);
  return fixed(100.0 * share, 1) + "% of dense work | ";
}

// "gate 4.1% of attention | " where a gate ran, what teaches it included.
std::string gate_share(const StepTiming& timing) {
  const double gate = timing.gate_seconds + timing.teacher_seconds;
  if (gate == 0.0 || timing.attention_seconds == 0.0) return "";
  return str("gate ", fixed(100.0 * gate / timing.attention_seconds, 1), "% of attention | ");
}

}  // namespace

std::string console_line(const StepReport& report, std::int64_t steps, double eta_seconds) {
  const StepTiming& timing = report.timing;
  return str("step ", report.step, '/', steps, " | loss ", fixed(report.loss, 4), " | lr ",
             scientific(report.learning_rate, 2), " | grad ", fixed(report.gradient_norm, 3),
             sparsity_text(report.layers), " | ", readable_count(timing.tokens_per_second),
             " tok/s | ",
             with_unit(timing.model_flops_per_second, 1000.0, {" ", " k", " M", " G", " T", " P"}),
             "FLOP/s | ", skipped_share(report), gate_share(timing),
             readable_bytes(static_cast<double>(timing.peak_bytes)), " | eta ",
             readable_time(eta_seconds), report.skipped ? " | skipped" : "");
}

}  // namespace filigree
