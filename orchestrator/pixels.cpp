#include "orchestrator/pixels.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::orchestrator {

std::vector<uint8_t> to_rgb_bytes(const at::Tensor& rgb) {
  ensure(rgb.dim() == 3 && rgb.size(0) == 3 && rgb.numel() > 0, "a picture is [3, height, width]");
  const at::Tensor values = rgb.detach().to(at::TensorOptions(at::kCPU).dtype(at::kFloat));
  const at::Tensor bytes = ((at::nan_to_num(values, -1, -1, -1) + 1) * 127.5)
                               .round()
                               .clamp(0, 255)
                               .to(at::kByte)
                               .permute({1, 2, 0})
                               .contiguous();  // [H, W, 3]
  const uint8_t* begin = bytes.const_data_ptr<uint8_t>();
  return {begin, begin + bytes.numel()};
}

}  // namespace tmd::orchestrator
