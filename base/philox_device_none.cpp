#include "base/philox_device.h"

// Stands for base/philox_device.cu in a build without CUDA, where no tensor lies on a device.

namespace tmd::device {

namespace {
constexpr const char* kNone = "this program was built without CUDA";
}

void fill_normal(const portable::PhiloxKey&, float*, int64_t, Stream) { refuse(kNone); }
void fill_normal(const portable::PhiloxKey&, double*, int64_t, Stream) { refuse(kNone); }

}  // namespace tmd::device
