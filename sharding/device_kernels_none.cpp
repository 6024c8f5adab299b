#include "sharding/device_kernels.h"

// Stands for sharding/device_kernels.cu in a build without CUDA, where no tensor lies on a device.

namespace tmd::sharding::device {

namespace {
[[noreturn]] void refuse() { tmd::device::refuse("this program was built without CUDA"); }
}  // namespace

void adamw_step(const AdamWSegment*, int64_t, Stream) { refuse(); }
void sum_of_squares(bool, const void*, int64_t, double*, Stream) { refuse(); }
void sum(const double*, int64_t, double*, Stream) { refuse(); }
void cast(const float*, Bfloat16*, int64_t, Stream) { refuse(); }
void cast(const Bfloat16*, float*, int64_t, Stream) { refuse(); }
void add_cast(float*, const Bfloat16*, int64_t, Stream) { refuse(); }

}  // namespace tmd::sharding::device
