// What a program has in place of GPUs that does not link the CUDA backend.
#include "runtime/cuda/cuda_device.hpp"

namespace filigree {
namespace {

[[noreturn]] void refuse() {
  throw UserError(
      "this filigree was built without CUDA; on a machine with the CUDA toolkit `cmake --preset "
      "cuda-release` and `cmake --build --preset cuda-release` make one that has it");
}

}  // namespace

bool built_with_cuda() { return false; }
std::vector<std::string> cuda_architectures() { return {}; }
int cuda_driver_version() { return 0; }
int cuda_runtime_version() { return 0; }
std::vector<LibraryVersion> cuda_libraries() { return {}; }
std::vector<CudaDeviceInfo> cuda_devices() { refuse(); }
std::string why_no_gpu(const std::string&, int, int) { refuse(); }
std::string why_unsupported(const CudaDeviceInfo&) { refuse(); }
ExecutionContext make_cuda_context(int) { refuse(); }

}  // namespace filigree
