// What `filigree doctor` looks at.
#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <thread>

#include "kernels/attention/attention_cudnn.hpp"
#include "kernels/cpu/tile_kernels.hpp"
#include "kernels/matmul/onednn_version.hpp"
#include "launch/commands/doctor.hpp"
#include "runtime/core/error.hpp"
#include "runtime/cuda/cuda_device.hpp"
#include "runtime/storage/hdf5_file.hpp"
#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

using Status = Finding::Status;

std::string compiler() {
#if defined(__clang__)
  return str("clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#else
  return str("gcc ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#endif
}

Finding examine_program() {
  return {"filigree", Status::ok,
          str(FILIGREE_VERSION, ", ", FILIGREE_BUILD_TYPE, ", ", compiler()), ""};
}

// The value of the first line of the file that begins with the key; empty where there is none.
std::string value_of(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const auto begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Finding examine_processor() {
  std::string sets;
  for (const CpuKernels* const* set = available_cpu_kernels(); *set != nullptr; ++set)
    sets += str(sets.empty() ? "" : ", ", (*set)->isa);
  const std::string model = value_of("/proc/cpuinfo", "model name");
  return {
      "processor", Status::ok,
      str(model.empty() ? "unknown model" : model, "; kernels for ", sets, ", the last is used"),
      ""};
}

Finding examine_threads() {
  const int usable = threads_of_process(0);
  return {"threads", Status::ok,
          str(usable, " for this process, the machine has ", std::thread::hardware_concurrency()),
          ""};
}

// What the kernel counts in kB.
std::string memory_text(const char* key) {
  const std::string text = value_of("/proc/meminfo", key);
  double kilobytes = 0;
  std::from_chars(text.data(), text.data() + text.size(), kilobytes);
  return readable_bytes(1024 * kilobytes);
}

Finding examine_memory() {
  return {"memory", Status::ok,
          str(memory_text("MemTotal"), ", available ", memory_text("MemAvailable")), ""};
}

Finding examine_mpi(const RankEnvironment& environment) {
  Finding finding = examine_library(MpiEnvironment::library());
  const int ranks = environment.world->size();
  finding.found += MpiEnvironment::launched_by_mpi()
                       ? str("; ", ranks, ranks == 1 ? " rank, " : " ranks, ",
                             environment.mpi.local_size(), " on this host")
                       : std::string("; started without mpirun");
  return finding;
}

constexpr const char* kBuildWithCuda =
    "`cmake --preset cuda-release` builds it in, on a machine with the CUDA toolkit";

Finding examine_cuda() {
  if (!built_with_cuda()) return {"CUDA", Status::missing, "built without", kBuildWithCuda};
  std::string architectures;
  for (const std::string& architecture : cuda_architectures())
    architectures += str(architectures.empty() ? "sm_" : ", sm_", architecture);
  return {"CUDA", Status::ok,
          str("built with ", cuda_version_text(cuda_runtime_version()), " for ", architectures),
          ""};
}

Finding examine_cudnn() {
  if (const auto version = cudnn_version()) return examine_library(*version);
  return {"cuDNN", Status::missing, "built without; attention is Filigree's own",
          "to measure it against cuDNN's, build with FILIGREE_CUDNN=ON"};
}

}  // namespace

Finding examine_driver(int driver, int needed) {
  if (driver == 0)
    return {"NVIDIA driver", Status::missing, "none",
            "install NVIDIA's, or start the container with its GPUs (docker run --gpus all)"};
  const std::string found = str("for CUDA ", cuda_version_text(driver));
  if (driver < needed)
    return {"NVIDIA driver", Status::broken, found,
            str("this build needs ", cuda_version_text(needed),
                ": install a newer driver, or build with an older toolkit")};
  return {"NVIDIA driver", Status::ok, found, ""};
}

namespace {

void examine_gpus(std::vector<Finding>& findings) {
  std::vector<CudaDeviceInfo> devices;
  try {
    devices = cuda_devices();
  } catch (const UserError& error) {
    findings.push_back({"GPU", Status::missing, "none", error.what()});
    return;
  }
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const CudaDeviceInfo& device = devices[i];
    const std::string problem = why_unsupported(device);
    findings.push_back({str("GPU ", i), problem.empty() ? Status::ok : Status::broken,
                        str(device.name, ", compute capability ", device.major, ".", device.minor,
                            ", ", readable_bytes(static_cast<double>(device.memory_bytes))),
                        problem});
  }
}

// The numbers of a version, whatever stands around them.
std::array<int, 3> numbers_of(const std::string& version) {
  std::array<int, 3> numbers{};
  const char *at = version.data(), *const end = at + version.size();
  for (int& number : numbers) {
    at = std::find_if(at, end, [](char c) { return c >= '0' && c <= '9'; });
    at = std::from_chars(at, end, number).ptr;
  }
  return numbers;
}

}  // namespace

Finding examine_library(const LibraryVersion& library) {
  if (library.loaded == library.built) return {library.name, Status::ok, library.loaded, ""};
  const auto built = numbers_of(library.built), loaded = numbers_of(library.loaded);
  const bool fits = loaded >= built && loaded[0] == built[0];
  return {library.name, fits ? Status::ok : Status::broken,
          str(library.loaded, ", built with ", library.built),
          fits ? ""
               : str("install version ", library.built,
                     " or a later one of that major version, or build again with this one")};
}

std::vector<Finding> examine(const RankEnvironment& environment) {
  std::vector<Finding> findings = {examine_program(),
                                   examine_processor(),
                                   examine_threads(),
                                   examine_memory(),
                                   examine_mpi(environment),
                                   examine_library(hdf5_version()),
                                   examine_library(onednn_version()),
                                   examine_cuda()};
  if (!built_with_cuda()) return findings;
  for (const LibraryVersion& library : cuda_libraries())
    findings.push_back(examine_library(library));
  findings.push_back(examine_cudnn());
  findings.push_back(examine_driver(cuda_driver_version(), cuda_runtime_version()));
  if (cuda_driver_version() >= cuda_runtime_version()) examine_gpus(findings);
  return findings;
}

}  // namespace filigree
