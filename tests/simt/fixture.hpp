// Device arrays, a stream, and expected faults, for the tests of the emulator.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace simt_test {

class Stream {
 public:
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const { ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

 private:
  cudaStream_t stream_ = nullptr;
};

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n) : n_(n) {
    EXPECT_EQ(cudaMalloc(&data_, n * sizeof(T)), cudaSuccess);
  }
  DeviceArray(const std::vector<T>& values, cudaStream_t stream) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpyAsync(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice, stream),
              cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  T* get() const { return data_; }
  std::size_t size() const { return n_; }
  // Waits for `stream`.
  std::vector<T> read(cudaStream_t stream) const {
    std::vector<T> values(n_);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost, stream),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

inline std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> draw(-1.0f, 1.0f);
  std::vector<float> values(n);
  for (float& value : values) value = draw(engine);
  return values;
}

inline simt::Options seeded(std::uint64_t seed) {
  simt::Options options;
  options.seed = seed;
  return options;
}

// The message of the fault that `body` ends with; empty when it does not.
template <typename Body>
std::string fault_of(const Body& body) {
  try {
    body();
  } catch (const simt::Fault& fault) {
    return fault.what();
  }
  return {};
}

// Every seed must find the fault: what is certain must not depend on luck.
template <typename Body>
void expect_fault(const Body& body, const std::vector<std::string>& parts, int seeds = 10) {
  for (int seed = 0; seed < seeds; ++seed) {
    simt::reset(seeded(seed));
    const std::string message = fault_of(body);
    for (const std::string& part : parts) {
      ASSERT_NE(message.find(part), std::string::npos)
          << "seed " << seed << ": '" << message << "' lacks '" << part << "'";
    }
  }
}

}  // namespace simt_test
