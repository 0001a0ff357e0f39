// `filigree doctor` where the program has the CUDA backend.
#include <gtest/gtest.h>

#include <map>
#include <simt/launch.hpp>

#include "launch/commands/doctor.hpp"
#include "runtime/cuda/cuda_device.hpp"

namespace filigree {
namespace {

using Status = Finding::Status;

std::map<std::string, Finding> findings() {
  MpiEnvironment mpi(nullptr, nullptr);
  std::map<std::string, Finding> result;
  for (const Finding& finding : examine({mpi, self_communicator("world")}))
    result[finding.name] = finding;
  return result;
}

TEST(Doctor, ListsGpusAndLibraries) {
  simt::reset({.devices = 2, .device_bytes = 8ull << 30});
  const auto found = findings();
  EXPECT_EQ(found.at("CUDA").found, "built with 13.0 for sm_90a");
  EXPECT_EQ(found.at("NVIDIA driver").found, "for CUDA 13.0");
  EXPECT_EQ(found.at("GPU 1").found, "SIMT emulator 1, compute capability 9.0, 8.0 GiB");
  for (const char* name : {"CUDA", "NVIDIA driver", "GPU 0", "cuBLASLt", "NCCL"})
    EXPECT_EQ(found.at(name).status, Status::ok) << name;
  EXPECT_EQ(found.at("NCCL").found, "2.28.9");
  EXPECT_EQ(found.at("cuBLASLt").found, "13.1.0");
  EXPECT_EQ(found.at("cuDNN").status, Status::missing);  // the emulator has none
  EXPECT_NE(found.at("cuDNN").hint.find("FILIGREE_CUDNN=ON"), std::string::npos);
}

TEST(Doctor, MissesGpusThatAreNotThere) {
  simt::reset({.devices = 0});
  EXPECT_EQ(findings().at("GPU").status, Status::missing);
  EXPECT_EQ(findings().at("NVIDIA driver").status, Status::ok);
}

TEST(WhyUnsupported, NamesTheCapabilityAndWhatTheBuildIsFor) {
  CudaDeviceInfo device;
  device.major = 9;
  EXPECT_EQ(why_unsupported(device), "");
  device.minor = 1;  // code for 90a runs there only
  EXPECT_EQ(why_unsupported(device),
            "it has compute capability 9.1, and this build is for 90a: build with "
            "FILIGREE_CUDA_ARCHITECTURES=91");
}

}  // namespace
}  // namespace filigree
