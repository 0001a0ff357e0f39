#include "runtime/training/quality_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

QualityMean as_mean(const QualityResult& result) {
  const QualityScore& score = result.score;
  return {result.variant,
          result.target_density,
          1,
          result.density,
          score.loss,
          score.last_quarter_loss,
          score.far_loss,
          score.accuracy,
          result.flops_per_token,
          result.tokens_per_second,
          result.gate_share,
          result.teacher_share,
          result.total_flops};
}

std::string share_text(double share) { return share == 0 ? "-" : fixed(100.0 * share, 1) + " %"; }

std::string row(const QualityMean& mean, const std::string& seed, bool is_text) {
  std::ostringstream out;
  out << "| " << mean.variant.name << " | "
      << (mean.variant.mechanism == "dense" ? "-" : fixed(100.0 * mean.target_density, 1) + " %")
      << " | " << seed << " | " << fixed(100.0 * mean.density, 1) << " % | ";
  if (is_text)
    out << fixed(mean.loss, 4) << " | " << fixed(std::exp(mean.loss), 3) << " | "
        << fixed(std::exp(mean.last_quarter_loss), 3) << " | " << fixed(std::exp(mean.far_loss), 3);
  else
    out << fixed(mean.loss, 4) << " | " << fixed(mean.accuracy, 4);
  out << " | " << readable_count(mean.total_flops) << " | " << readable_count(mean.flops_per_token)
      << " | " << readable_count(mean.tokens_per_second) << " | " << share_text(mean.gate_share)
      << " | " << share_text(mean.teacher_share) << " |\n";
  return std::move(out).str();
}

std::string heading(bool is_text) {
  return str("| variant | asked | seed | density | loss | ",
             is_text ? "perplexity | last quarter | far repeats" : "accuracy",
             " | FLOPs | FLOPs per token | tokens/s | gate | teacher "
             "|\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
             is_text ? "--:|--:|\n" : "\n");
}

nlohmann::ordered_json score_json(const QualityMean& mean, bool is_text) {
  nlohmann::ordered_json json = {{"variant", mean.variant.name},
                                 {"target_density", mean.target_density},
                                 {"density", mean.density},
                                 {"loss", mean.loss}};
  if (is_text) {
    json["perplexity"] = std::exp(mean.loss);
    json["last_quarter_perplexity"] = std::exp(mean.last_quarter_loss);
    json["far_repeat_loss"] = mean.far_loss;
    json["far_repeat_perplexity"] = std::exp(mean.far_loss);
  } else {
    json["accuracy"] = mean.accuracy;
  }
  json["executed_flops_per_token"] = mean.flops_per_token;
  json["tokens_per_second"] = mean.tokens_per_second;
  json["gate_over_attention"] = mean.gate_share;
  json["teacher_over_attention"] = mean.teacher_share;
  json["executed_training_flops"] = mean.total_flops;
  return json;
}

// Maps values to pixels; the range is that of the values, widened by a tenth on either side.
class PlotAxis {
 public:
  PlotAxis(const std::vector<double>& values, double first_pixel, double last_pixel)
      : first_pixel_(first_pixel), last_pixel_(last_pixel) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    const double margin = *most > *least ? 0.1 * (*most - *least) : 0.1 * std::abs(*least) + 1e-9;
    low_ = *least - margin;
    high_ = *most + margin;
  }
  double pixel(double value) const {
    return first_pixel_ + (value - low_) / (high_ - low_) * (last_pixel_ - first_pixel_);
  }
  double tick(int i, int ticks) const { return low_ + (high_ - low_) * i / (ticks - 1); }

 private:
  double low_ = 0, high_ = 1, first_pixel_, last_pixel_;
};

constexpr int kWidth = 860, kHeight = 520, kLeft = 80, kRight = 640, kTop = 40, kBottom = 460;

std::string text(double x, double y, const std::string& words, const char* anchor) {
  return str("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" text-anchor=\"", anchor, "\">",
             words, "</text>\n");
}

std::string axes(const PlotAxis& x, const PlotAxis& y, bool is_text) {
  std::ostringstream out;
  out << "<path d=\"M" << kLeft << ' ' << kTop << " V" << kBottom << " H" << kRight
      << "\" fill=\"none\" stroke=\"black\"/>\n";
  constexpr int kTicks = 5;
  for (int i = 0; i < kTicks; ++i) {
    const double at_x = x.pixel(x.tick(i, kTicks)), at_y = y.pixel(y.tick(i, kTicks));
    out << text(at_x, kBottom + 20, readable_count(x.tick(i, kTicks)), "middle")
        << text(kLeft - 8, at_y + 4, fixed(y.tick(i, kTicks), 3), "end") << "<path d=\"M" << kLeft
        << ' ' << fixed(at_y, 1) << " H" << kRight << "\" stroke=\"#ddd\"/>\n";
  }
  out << text((kLeft + kRight) / 2.0, kBottom + 44, "executed FLOPs per token of training",
              "middle")
      << text(kLeft, kTop - 14, is_text ? "validation loss, nats per token" : "recall accuracy",
              "start");
  return std::move(out).str();
}

}  // namespace

std::vector<QualityMean> means_over_seeds(const std::vector<QualityResult>& results) {
  std::vector<QualityMean> means;
  for (const QualityResult& result : results) {
    const QualityMean one = as_mean(result);
    const auto same = std::find_if(means.begin(), means.end(), [&](const QualityMean& mean) {
      return mean.variant.name == one.variant.name && mean.target_density == one.target_density;
    });
    if (same == means.end()) {
      means.push_back(one);
      continue;
    }
    const int seeds = ++same->seeds;
    const auto fold = [&](double& mean, double value) { mean += (value - mean) / seeds; };
    fold(same->density, one.density);
    fold(same->loss, one.loss);
    fold(same->last_quarter_loss, one.last_quarter_loss);
    fold(same->far_loss, one.far_loss);
    fold(same->accuracy, one.accuracy);
    fold(same->flops_per_token, one.flops_per_token);
    fold(same->tokens_per_second, one.tokens_per_second);
    fold(same->gate_share, one.gate_share);
    fold(same->teacher_share, one.teacher_share);
    fold(same->total_flops, one.total_flops);
  }
  return means;
}

std::string quality_table_markdown(const std::vector<QualityResult>& results, bool is_text) {
  std::string out = "Means over the seeds\n\n" + heading(is_text);
  for (const QualityMean& mean : means_over_seeds(results))
    out += row(mean, str("mean of ", mean.seeds), is_text);
  out += "\nEvery run\n\n" + heading(is_text);
  for (const QualityResult& result : results)
    out += row(as_mean(result), str(result.seed), is_text);
  out +=
      "\nFLOPs: executed by the whole training; per token, and tokens/s: once the density has "
      "settled. gate: time of choosing blocks, teacher: of what the choice learns from, both over "
      "the time of attention.\n";
  if (is_text && !results.empty())
    out += str("\n", results.front().score.targets, " targets scored. Far repeats: the ",
               results.front().score.far_targets,
               " of them that complete a pair of tokens seen more than ", kFarTokens,
               " tokens before and not since; perplexity on these.\n");
  return out;
}

nlohmann::ordered_json quality_table_json(const std::vector<QualityResult>& results, bool is_text) {
  auto means = nlohmann::ordered_json::array(), runs = nlohmann::ordered_json::array();
  for (const QualityMean& mean : means_over_seeds(results)) {
    means.push_back(score_json(mean, is_text));
    means.back()["seeds"] = mean.seeds;
  }
  for (const QualityResult& result : results) {
    runs.push_back(score_json(as_mean(result), is_text));
    auto& run = runs.back();
    run["seed"] = result.seed;
    run["targets"] = result.score.targets;
    if (is_text) run["far_repeat_targets"] = result.score.far_targets;
    run["last_training_loss"] = result.train_loss;
    run["dense_flops_per_token"] = result.dense_flops_per_token;
    run["steps"] = result.steps;
  }
  return {{"means", means}, {"runs", runs}};
}

std::string quality_plot_svg(const std::vector<QualityResult>& results, bool is_text) {
  FILIGREE_CHECK(!results.empty(), "nothing to plot");
  constexpr std::array kColours = {"#1b1b1b", "#d95f02", "#7570b3", "#1b9e77",
                                   "#e7298a", "#66a61e", "#a6761d"};
  const auto height = [&](const QualityMean& mean) { return is_text ? mean.loss : mean.accuracy; };
  std::vector<double> xs, ys;
  for (const QualityResult& result : results) {
    xs.push_back(result.flops_per_token);
    ys.push_back(height(as_mean(result)));
  }
  const PlotAxis x(xs, kLeft, kRight), y(ys, kBottom, kTop);
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kWidth << "\" height=\"" << kHeight
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      << axes(x, y, is_text);
  std::vector<std::string> names;
  const auto colour = [&](const std::string& name) {
    const auto at = std::find(names.begin(), names.end(), name) - names.begin();
    if (at == std::ssize(names)) names.push_back(name);
    return kColours[static_cast<std::size_t>(at) % kColours.size()];
  };
  const auto dot = [&](const QualityMean& mean, double radius, double opacity) {
    out << "<circle cx=\"" << fixed(x.pixel(mean.flops_per_token), 1) << "\" cy=\""
        << fixed(y.pixel(height(mean)), 1) << "\" r=\"" << fixed(radius, 1) << "\" fill=\""
        << colour(mean.variant.name) << "\" fill-opacity=\"" << fixed(opacity, 2) << "\"/>\n";
  };
  for (const QualityResult& result : results) dot(as_mean(result), 2.5, 0.4);
  for (const QualityMean& mean : means_over_seeds(results)) {
    dot(mean, 5.0, 1.0);
    out << text(x.pixel(mean.flops_per_token) + 8, y.pixel(height(mean)) - 6,
                fixed(100.0 * mean.density, 0) + " %", "start");
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double at = kTop + 20.0 * static_cast<double>(i);
    out << "<circle cx=\"" << kRight + 20 << "\" cy=\"" << fixed(at, 1) << "\" r=\"5\" fill=\""
        << colour(names[i]) << "\"/>\n"
        << text(kRight + 32, at + 4, names[i], "start");
  }
  out << "</svg>\n";
  return std::move(out).str();
}

}  // namespace filigree
