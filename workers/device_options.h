#pragma once

namespace tmd::workers {

/// `[device]`: what the trainers compute on, and how ATen is told to.
struct DeviceOptions {
  enum class Kind { kAuto, kCpu, kCuda } kind = Kind::kAuto;  ///< auto: a GPU where there is one
  bool share = false;                                         ///< several trainers may use one GPU
  bool deterministic = true;  ///< the same bits in every run, where ATen can; false: whatever is fastest
  bool tf32 = false;          ///< products of float32 in TensorFloat-32
  bool cudnn = true;          ///< convolutions through cuDNN
  enum class Attention { kAuto, kFlash, kCudnn, kEfficient, kMath } attention = Attention::kAuto;
};

}  // namespace tmd::workers
