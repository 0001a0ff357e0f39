#include "kernels/cpu/tile_kernels.hpp"

namespace filigree {

namespace portable {
extern const CpuKernels kKernels;
}
#if defined(FILIGREE_AVX512_KERNELS)
namespace avx512 {
extern const CpuKernels kKernels;
}
#endif

namespace {

#if defined(FILIGREE_AVX512_KERNELS)
// The five sets of x86-64-v4. The compiler's own name for the level is newer than the compilers
// supported here.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

struct Available {
  const CpuKernels* sets[3] = {&portable::kKernels, nullptr, nullptr};
  const CpuKernels* best = &portable::kKernels;
  Available() {
#if defined(FILIGREE_AVX512_KERNELS)
    if (has_avx512()) best = sets[1] = &avx512::kKernels;
#endif
  }
};

const Available& available() {
  static const Available result;
  return result;
}

}  // namespace

const CpuKernels& cpu_kernels() { return *available().best; }
const CpuKernels* const* available_cpu_kernels() { return available().sets; }

}  // namespace filigree
