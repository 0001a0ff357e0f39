// NVIDIA's libraries that the CUDA backend is linked against.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <nccl.h>

#include <sstream>

#include "runtime/cuda/cuda_device.hpp"

namespace filigree {
namespace {

// "2.28.9" from 22809, as cuBLASLt and NCCL count.
std::string library_version(std::size_t version) {
  return str(version / 10000, ".", version % 10000 / 100, ".", version % 100);
}

}  // namespace

std::vector<std::string> cuda_architectures() {
  std::vector<std::string> result;
  std::istringstream list(FILIGREE_CUDA_ARCHITECTURES);
  for (std::string architecture; std::getline(list, architecture, ',');)
    result.push_back(architecture);
  return result;
}

std::string why_unsupported(const CudaDeviceInfo& device) {
  const int capability = 10 * device.major + device.minor;
  std::string known;
  for (const std::string& architecture : cuda_architectures()) {
    // One with a letter is for GPUs of exactly that capability.
    const bool exact = architecture.back() >= 'a';
    const int least = std::stoi(architecture);
    if (exact ? capability == least : capability >= least) return "";
    known += str(known.empty() ? "" : ", ", architecture);
  }
  return str("it has compute capability ", device.major, ".", device.minor,
             ", and this build is for ", known,
             ": build with FILIGREE_CUDA_ARCHITECTURES=", capability);
}

std::string why_no_gpu(const std::string& answer, int driver, int needed) {
  const std::string answered = str("no NVIDIA GPU can be used: CUDA says '", answer, "'; ");
  if (driver == 0)
    return answered +
           "no NVIDIA driver was found: install one, or start the container with its GPUs (docker "
           "run --gpus all)";
  if (driver < needed)
    return str(answered, "the driver is for CUDA ", cuda_version_text(driver),
               ", this build needs ", cuda_version_text(needed),
               ": install a newer driver, or build with an older toolkit");
  return answered + "nvidia-smi lists the GPUs of the driver, CUDA_VISIBLE_DEVICES hides some";
}

int cuda_driver_version() {
  int version = 0;
  cudaDriverGetVersion(&version);
  return version;
}

int cuda_runtime_version() {
  int version = 0;
  cudaRuntimeGetVersion(&version);
  return version;
}

std::vector<LibraryVersion> cuda_libraries() {
  int nccl = 0;
  ncclGetVersion(&nccl);
  return {{"cuBLASLt", str(CUBLAS_VER_MAJOR, ".", CUBLAS_VER_MINOR, ".", CUBLAS_VER_PATCH),
           library_version(cublasLtGetVersion())},
          {"NCCL", str(NCCL_MAJOR, ".", NCCL_MINOR, ".", NCCL_PATCH),
           library_version(static_cast<std::size_t>(nccl))}};
}

}  // namespace filigree
