#include "launch/commands/bench_kernels.hpp"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "launch/device.hpp"
#include "launch/options.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {

namespace {

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string time_text(double seconds) {
  if (seconds < 1e-3) return fixed(seconds * 1e6, 1) + " us";
  return seconds < 1 ? fixed(seconds * 1e3, 2) + " ms" : fixed(seconds, 2) + " s";
}

std::string error_text(const KernelMeasurement& row) {
  if (!row.error) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", *row.error);
  return text;
}

std::vector<std::string> cells(const KernelMeasurement& row) {
  std::vector<std::string> result = {row.op, row.shape, std::string(name_of(row.dtype)),
                                     row.implementation};
  result.push_back(row.picked ? "*" : "");
  if (!row.rejected.empty()) return result;
  result.push_back(time_text(row.seconds));
  result.push_back(row.memory_bound ? fixed(row.gbs, 1) + " GB/s"
                                    : fixed(row.gflops, 1) + " GFLOP/s");
  result.push_back(fixed(100 * row.share_of_peak, 0) + " %");
  result.push_back(error_text(row));
  return result;
}

std::string table_text(const std::vector<KernelMeasurement>& rows) {
  std::ostringstream out;
  std::vector<std::vector<std::string>> lines = {
      {"op", "shape", "dtype", "implementation", "", "time", "rate", "of peak", "error"}};
  for (const KernelMeasurement& row : rows) lines.push_back(cells(row));
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool new_case =
        i > 0 && (i == 1 || rows[i - 1].op != rows[i - 2].op ||
                  rows[i - 1].shape != rows[i - 2].shape || rows[i - 1].dtype != rows[i - 2].dtype);
    if (new_case) out << '\n';
    for (std::size_t c = 0; c < lines[i].size(); ++c) {
      // Op, shape and dtype once per case.
      const std::string text = c < 3 && i > 0 && !new_case ? "" : lines[i][c];
      const std::string padding(widths[c] - text.size(), ' ');
      out << (c >= 5 ? padding + text : text + padding) << "  ";
    }
    if (i > 0 && !rows[i - 1].rejected.empty()) out << "does not apply: " << rows[i - 1].rejected;
    out << '\n';
  }
  return out.str();
}

std::string peaks_text(const MachinePeaks& peaks, int threads) {
  std::ostringstream out;
  out << "Measured on this machine with " << threads
      << (threads == 1 ? " thread:\n" : " threads:\n");
  for (const MachinePeaks::Isa& isa : peaks.isas)
    out << "  multiply-adds, " << isa.name << ": " << fixed(isa.f32_gflops, 1) << " GFLOP/s f32, "
        << fixed(isa.f64_gflops, 1) << " GFLOP/s f64\n";
  out << "  oneDNN 1024^3: " << fixed(peaks.f32_gemm_gflops, 1) << " GFLOP/s f32, "
      << (peaks.bf16_gemm_gflops > 0 ? fixed(peaks.bf16_gemm_gflops, 1) + " GFLOP/s bf16"
                                     : "no fast bf16")
      << "\n  memory copy: " << fixed(peaks.memory_gbs, 1) << " GB/s read and written\n\n"
      << "*: what dispatch picks. of peak: of the multiply-add peak of the dtype (f32 for bf16; "
         "for "
         "bf16 matmul\noneDNN 1024^3), or of the memory copy where the rate is in GB/s (above 100 "
         "%: from cache). error: largest\ndifference from the reference in the same dtype over its "
         "largest value.\n\n";
  return out.str();
}

std::string peaks_text(const DevicePeaks& peaks, const std::string& device) {
  return str("Measured on ", device,
             ":\n  cuBLASLt 8192^3: ", fixed(peaks.f32_gemm_gflops * 1e-3, 1), " TFLOP/s f32, ",
             fixed(peaks.bf16_gemm_gflops * 1e-3, 1),
             " TFLOP/s bf16\n  memory copy: ", fixed(peaks.copy_gbs, 1),
             " GB/s read and written\n\nof peak: of cuBLASLt 8192^3 in the dtype, or of the memory "
             "copy where the rate is in GB/s.\n\n");
}

nlohmann::json to_json(const MachinePeaks& peaks, int threads) {
  nlohmann::json isas = nlohmann::json::array();
  for (const MachinePeaks::Isa& isa : peaks.isas)
    isas.push_back(
        {{"name", isa.name}, {"f32_gflops", isa.f32_gflops}, {"f64_gflops", isa.f64_gflops}});
  return {{"threads", threads},
          {"isas", isas},
          {"f32_gemm_gflops", peaks.f32_gemm_gflops},
          {"bf16_gemm_gflops", peaks.bf16_gemm_gflops},
          {"memory_gbs", peaks.memory_gbs}};
}

nlohmann::json to_json(const DevicePeaks& peaks) {
  return {{"f32_gemm_gflops", peaks.f32_gemm_gflops},
          {"bf16_gemm_gflops", peaks.bf16_gemm_gflops},
          {"memory_gbs", peaks.copy_gbs}};
}

nlohmann::json to_json(const std::vector<KernelMeasurement>& rows) {
  nlohmann::json kernels = nlohmann::json::array();
  for (const KernelMeasurement& row : rows) {
    nlohmann::json item = {{"op", row.op},
                           {"shape", row.shape},
                           {"dtype", name_of(row.dtype)},
                           {"implementation", row.implementation},
                           {"picked", row.picked}};
    if (row.rejected.empty()) {
      item.update({{"seconds", row.seconds},
                   {"gflops", row.gflops},
                   {"gbs", row.gbs},
                   {"share_of_peak", row.share_of_peak},
                   {"memory_bound", row.memory_bound}});
      if (row.error) item["error"] = *row.error;
    } else {
      item["rejected"] = row.rejected;
    }
    kernels.push_back(std::move(item));
  }
  return kernels;
}

void write_json(const std::string& path, const nlohmann::json& json) {
  std::ofstream file(path);
  file << json.dump(2) << '\n';
  if (!file.flush())
    throw UserError(str("--json: cannot write '", path, "'; is its folder there and writable?"));
}

struct MeasuredPeaks {
  KernelPeaks kernels;
  std::string text;
  nlohmann::json json;
};

MeasuredPeaks measure_peaks(ExecutionContext& context) {
  if (context.device.kind == DeviceKind::cpu) {
    const MachinePeaks peaks = measure_machine_peaks(context.num_threads);
    return {KernelPeaks(peaks), peaks_text(peaks, context.num_threads),
            to_json(peaks, context.num_threads)};
  }
  const DevicePeaks peaks = measure_device_peaks(context);
  return {KernelPeaks(peaks), peaks_text(peaks, str("GPU ", context.device.index)), to_json(peaks)};
}

int run(const std::vector<std::string>& arguments) {
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string filter, json_file, device = "cpu";
  Options options(bench_kernels_command());
  options.add("threads", &threads,
              {.description = "OpenMP threads per kernel", .min = 1, .max = 4096});
  options.add("device", &device, device_option());
  options.add(
      "filter", &filter,
      {.description = "only cases whose 'op shape dtype' contains this text", .unit = "TEXT"});
  options.add("json", &json_file,
              {.description = "also write the measurements to this file", .unit = "FILE"});
  if (!options.parse(arguments)) return exit_code::kOk;

  ExecutionContext context = make_context(choose_device(device), threads);
  const MeasuredPeaks peaks = measure_peaks(context);
  print_once(peaks.text);
  const std::vector<KernelMeasurement> rows = measure_kernels(peaks.kernels, context, filter);
  if (rows.empty())
    throw UserError(str("--filter ", filter,
                        ": no case contains this text; try an op, such as matmul, attention or "
                        "rms_norm, or a dtype: f32, bf16, f64"));
  print_once(table_text(rows));
  if (!json_file.empty())
    write_json(json_file, {{"device", device}, {"peaks", peaks.json}, {"kernels", to_json(rows)}});
  return exit_code::kOk;
}

}  // namespace

Command bench_kernels_command() {
  return {"bench kernels",
          "time every kernel implementation beside the measured peak of this machine",
          "filigree bench kernels --threads 2 --filter attention --json kernels.json", run};
}

}  // namespace filigree
