#pragma once

// Marks a function that runs on the host and on the device. Element functions of the device kernels carry it,
// so that the tests run them on machines without a device.
#ifdef __CUDACC__
#define TMD_HOST_DEVICE __host__ __device__
#else
#define TMD_HOST_DEVICE
#endif

namespace tmd::portable {

/// a * b + c with both operations rounded, also where a compiler would contract them: a device's compiler
/// does unless it is told not to.
TMD_HOST_DEVICE inline double product_plus(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __dadd_rn(__dmul_rn(a, b), c);
#else
  return a * b + c;
#endif
}

}  // namespace tmd::portable
