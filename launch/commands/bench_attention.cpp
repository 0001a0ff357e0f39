#include "launch/commands/bench_attention.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "launch/commands/bench_kernels.hpp"
#include "launch/device.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {

namespace {

// "64,128" -> {64, 128}, each in [min, max].
std::vector<double> numbers(const std::string& option, const std::string& text, double min,
                            double max, bool whole) {
  std::vector<double> result;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    double value = 0;
    char rest = 0;
    const bool is_number = std::sscanf(item.c_str(), "%lf%c", &value, &rest) == 1;
    if (!is_number || !(value >= min && value <= max) || (whole && value != std::floor(value)))
      throw UserError(str("--", option, " ", text, ": '", item, "' is not a ",
                          whole ? "whole number" : "number", " from ", min, " to ", max,
                          "; several are separated by commas"));
    result.push_back(value);
  }
  if (result.empty()) throw UserError(str("--", option, ": give at least one number"));
  return result;
}

std::vector<std::int64_t> whole_numbers(const std::string& option, const std::string& text,
                                        std::int64_t max) {
  std::vector<std::int64_t> result;
  for (const double value : numbers(option, text, 1, double(max), true))
    result.push_back(static_cast<std::int64_t>(value));
  return result;
}

template <class T>
std::string joined(const std::vector<T>& values) {
  std::string text;
  for (const T value : values) text += str(text.empty() ? "" : ",", value);
  return text;
}

// What the rates are held against.
struct Ceiling {
  std::string name;
  double gflops = 0;
};

Ceiling measure_ceiling(const AttentionBenchSettings& settings, ExecutionContext& context) {
  if (context.device.kind == DeviceKind::cpu)
    return {str("multiply-adds of ", context.num_threads,
                context.num_threads == 1 ? " thread" : " threads"),
            measure_machine_peaks(context.num_threads).isas.back().f32_gflops};
  const DevicePeaks peaks = measure_device_peaks(context);
  return {"cuBLASLt 8192^3",
          settings.dtype == DType::bf16 ? peaks.bf16_gemm_gflops : peaks.f32_gemm_gflops};
}

std::string table_text(const std::vector<AttentionMeasurement>& rows, double peak_gflops) {
  std::ostringstream out;
  out << "                         |           forward                                  |          "
         " "
         "backward\n"
         " tokens group block read |  dense ms  sparse ms  faster  GFLOP/s  /pair  peak |  dense "
         "ms "
         " sparse ms  faster  GFLOP/s  /pair  peak\n";
  const auto timing = [&](const AttentionTiming& t) {
    char text[128];
    std::snprintf(text, sizeof text, " | %9.3f  %9.3f  %5.2fx  %7.0f  %4.0f%%  %3.0f%%",
                  t.dense_seconds * 1e3, t.sparse_seconds * 1e3, t.speed_up(), t.sparse_gflops,
                  100 * t.efficiency(), 100 * t.sparse_gflops / peak_gflops);
    return std::string(text);
  };
  const AttentionMeasurement* previous = nullptr;
  for (const AttentionMeasurement& row : rows) {
    if (previous != nullptr && previous->query_block != row.query_block) out << '\n';
    char text[64];
    std::snprintf(text, sizeof text, "%7lld %5lld %5lld %3.0f%%", (long long)row.sequence,
                  (long long)row.query_block, (long long)row.key_block, row.density);
    out << text << timing(row.forward) << timing(row.backward) << '\n';
    previous = &row;
  }
  return out.str();
}

std::string heading(const AttentionBenchSettings& s, const Ceiling& ceiling) {
  char peak[32];
  std::snprintf(peak, sizeof peak, "%.1f", ceiling.gflops);
  return str("Causal attention in ", name_of(s.dtype), ", ", s.heads, " query and ", s.kv_heads,
             " key/value heads of ", s.head_dim,
             s.dense.empty() ? "" : str("; dense times are those of '", s.dense, "'"),
             ".\nMeasured peak, ", ceiling.name, ": ", peak,
             " GFLOP/s.\n\n"
             "group: queries that share a list; block: keys of an entry; read: share of the causal "
             "pairs that is read\n(first, previous and own blocks always are; densities below "
             "theirs are left out). faster: dense time\nover sparse time. GFLOP/s: of the sparse "
             "one, of pairs that are read. /pair: that rate relative to dense.\npeak: its share of "
             "the measured peak.\n\n");
}

nlohmann::json timing_json(const AttentionTiming& t) {
  return {{"dense_seconds", t.dense_seconds}, {"sparse_seconds", t.sparse_seconds},
          {"dense_gflops", t.dense_gflops},   {"sparse_gflops", t.sparse_gflops},
          {"speed_up", t.speed_up()},         {"efficiency_per_pair", t.efficiency()}};
}

void write_json(const std::string& path, const AttentionBenchSettings& settings,
                const std::vector<AttentionMeasurement>& rows, const Ceiling& ceiling) {
  nlohmann::json measurements = nlohmann::json::array();
  for (const AttentionMeasurement& row : rows)
    measurements.push_back({{"sequence", row.sequence},
                            {"query_block", row.query_block},
                            {"key_block", row.key_block},
                            {"asked_density_percent", row.asked_density},
                            {"density_percent", row.density},
                            {"forward", timing_json(row.forward)},
                            {"backward", timing_json(row.backward)}});
  const nlohmann::json json = {{"dtype", name_of(settings.dtype)}, {"dense", settings.dense},
                               {"heads", settings.heads},          {"kv_heads", settings.kv_heads},
                               {"head_dim", settings.head_dim},    {"peak", ceiling.name},
                               {"peak_gflops", ceiling.gflops},    {"measurements", measurements}};
  std::ofstream file(path);
  file << json.dump(2) << '\n';
  if (!file.flush())
    throw UserError(str("--json: cannot write '", path, "'; is its folder there and writable?"));
}

int run(const std::vector<std::string>& arguments) {
  AttentionBenchSettings settings;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string device = "cpu", dtype(name_of(settings.dtype));
  std::string sequences = joined(settings.sequences), densities = joined(settings.densities);
  std::string groups = joined(settings.query_blocks), blocks = joined(settings.key_blocks);
  std::string json_file;
  Options options(bench_attention_command());
  options.add("threads", &threads,
              {.description = "OpenMP threads per kernel", .min = 1, .max = 4096});
  options.add("device", &device, device_option());
  options.add("dtype", &dtype, {.description = "of all tensors", .allowed = {"f32", "bf16"}});
  options.add("sequence", &sequences, {.description = "lengths to measure", .unit = "TOKENS,..."});
  options.add("density", &densities,
              {.description = "share of the blocks that is read", .unit = "PERCENT,..."});
  options.add("query-block", &groups,
              {.description = "queries that share a list", .unit = "TOKENS,..."});
  options.add("key-block", &blocks,
              {.description = "keys of one entry of a list", .unit = "TOKENS,..."});
  options.add("dense", &settings.dense,
              {.description = "implementation that dense times are of, e.g. cudnn; empty: the one "
                              "that training takes",
               .unit = "NAME"});
  options.add("heads", &settings.heads, {.description = "query heads", .min = 1, .max = 1024});
  options.add("kv-heads", &settings.kv_heads,
              {.description = "key/value heads, a divisor of --heads", .min = 1, .max = 1024});
  options.add("head-dim", &settings.head_dim,
              {.description = "width of a head", .min = 1, .max = 1024});
  options.add("json", &json_file,
              {.description = "also write the measurements to this file", .unit = "FILE"});
  if (!options.parse(arguments)) return exit_code::kOk;

  settings.sequences = whole_numbers("sequence", sequences, 1 << 20);
  settings.query_blocks = whole_numbers("query-block", groups, 1 << 20);
  settings.key_blocks = whole_numbers("key-block", blocks, 1 << 20);
  settings.densities = numbers("density", densities, 0, 100, false);
  if (settings.heads % settings.kv_heads != 0)
    throw UserError(str("--kv-heads ", settings.kv_heads, ": does not divide --heads ",
                        settings.heads, "; each key/value head serves equally many query heads"));

  settings.dtype = dtype_from_name(dtype);
  ExecutionContext context = make_context(choose_device(device), threads);
  const Ceiling ceiling = measure_ceiling(settings, context);
  print_once(heading(settings, ceiling));
  const std::vector<AttentionMeasurement> rows = measure_attention(settings, context);
  print_once(table_text(rows, ceiling.gflops));
  if (!json_file.empty()) write_json(json_file, settings, rows, ceiling);
  return exit_code::kOk;
}

}  // namespace

Command bench_attention_command() {
  return {"bench attention", "time block-sparse beside dense attention over lengths and densities",
          "filigree bench attention --sequence 4096,16384 --density 10 --json attention.json", run};
}

}  // namespace filigree
