#include "parallel/nccl_gpus.hpp"

#include <nccl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>

#include "parallel/nccl_communicator.hpp"
#include "runtime/cuda/cuda_device.hpp"

namespace filigree {
namespace {

constexpr int kFirstVersionThatShares = 23000;  // 2.30.0

int nccl_version() {
  int version = 0;
  ncclGetVersion(&version);
  return version;
}

bool nccl_shares_gpus() {
  const char* told = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return told != nullptr && std::string_view(told) == "1" &&
         nccl_version() >= kFirstVersionThatShares;
}

std::string how_to_share() {
  const int version = nccl_version();
  return str("start one rank for each GPU; NCCL 2.30 and newer (this is ", version / 10000, '.',
             version / 100 % 100, '.', version % 100,
             ") share one with NCCL_MULTI_RANK_GPU_ENABLE=1");
}

// What tells the GPU of a rank from all others of the job. Containers of different machines may
// have the same host name, so the machine's boot counts too.
struct GpuPlace {
  std::array<char, 64> host{};
  std::array<char, 40> boot{};
  std::array<char, 24> bus{};
  bool operator==(const GpuPlace&) const = default;
};

GpuPlace place_of(int gpu) {
  GpuPlace place;
  gethostname(place.host.data(), place.host.size() - 1);
  std::ifstream("/proc/sys/kernel/random/boot_id").getline(place.boot.data(), place.boot.size());
  const std::string bus = cuda_devices().at(static_cast<std::size_t>(gpu)).bus;
  bus.copy(place.bus.data(), place.bus.size() - 1);
  return place;
}

}  // namespace

int gpu_of_local_rank(int local_rank, int local_size) {
  const auto gpus = static_cast<int>(cuda_devices().size());
  if (local_size > gpus && gpus > 1 && !nccl_shares_gpus())
    throw UserError(str(local_size, " ranks run on this host, which shows them ", gpus, " GPUs; ",
                        how_to_share()));
  return local_rank % gpus;
}

void check_one_rank_per_gpu(Communicator& host, int gpu) {
  const GpuPlace mine = place_of(gpu);
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(GpuPlace));
  const Tensor own = Tensor::empty({kBytes}, DType::u8);
  const Tensor all = Tensor::empty({host.size(), kBytes}, DType::u8);
  std::memcpy(own.raw(), &mine, sizeof(mine));
  host.all_gather(own, all);
  if (nccl_shares_gpus()) return;
  std::vector<GpuPlace> places(static_cast<std::size_t>(host.size()));
  std::memcpy(places.data(), all.raw(), static_cast<std::size_t>(all.bytes()));
  for (std::size_t b = 0; b < places.size(); ++b)
    for (std::size_t a = 0; a < b; ++a)
      if (places[a] == places[b])
        throw UserError(str("ranks ", a, " and ", b, " on ", places[a].host.data(),
                            " use the same GPU (", places[a].bus.data(), "); ", how_to_share()));
}

}  // namespace filigree
