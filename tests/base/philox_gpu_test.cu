// The device draws the host's numbers, bit for bit. Needs a device; built by the preset gpu.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/portable_numbers.h"

namespace {

using tmd::portable::PhiloxKey;

constexpr int kNumbers = 1 << 20;

__global__ void draw(PhiloxKey stream, float* normal, double* uniform) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= kNumbers) return;
  const auto words = tmd::portable::philox_block(stream, static_cast<uint32_t>(i / 4));
  normal[i] = static_cast<float>(tmd::portable::normal_of_word(words[i % 4]));
  uniform[i] = tmd::portable::unit_double(static_cast<uint64_t>(words[i % 4]) << 32 | words[(i + 1) % 4]);
}

int check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return 0;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  return 1;
}

int differing(const PhiloxKey& stream, const std::vector<float>& normal, const std::vector<double>& uniform) {
  int count = 0;
  for (int i = 0; i < kNumbers; ++i) {
    const auto words = tmd::portable::philox_block(stream, static_cast<uint32_t>(i / 4));
    const float host_normal = static_cast<float>(tmd::portable::normal_of_word(words[i % 4]));
    const double host_uniform =
        tmd::portable::unit_double(static_cast<uint64_t>(words[i % 4]) << 32 | words[(i + 1) % 4]);
    count += std::memcmp(&host_normal, &normal[i], sizeof host_normal) != 0 ||
             std::memcmp(&host_uniform, &uniform[i], sizeof host_uniform) != 0;
  }
  return count;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no CUDA device here: this test fails, it is not skipped\n");
    return 1;
  }
  const PhiloxKey stream{0x123456789abcdefULL, 7, 11, 3U << 24};
  float* normal = nullptr;
  double* uniform = nullptr;
  if (check(cudaMalloc(&normal, kNumbers * sizeof(float)), "cudaMalloc") ||
      check(cudaMalloc(&uniform, kNumbers * sizeof(double)), "cudaMalloc")) {
    return 1;
  }
  draw<<<kNumbers / 256, 256>>>(stream, normal, uniform);
  std::vector<float> normal_here(kNumbers);
  std::vector<double> uniform_here(kNumbers);
  if (check(cudaMemcpy(normal_here.data(), normal, kNumbers * sizeof(float), cudaMemcpyDeviceToHost),
            "draw") ||
      check(cudaMemcpy(uniform_here.data(), uniform, kNumbers * sizeof(double), cudaMemcpyDeviceToHost),
            "copy")) {
    return 1;
  }
  const int wrong = differing(stream, normal_here, uniform_here);
  std::printf("%d of %d numbers have other bits than on the host\n", wrong, kNumbers);
  return wrong == 0 ? 0 : 1;
}
