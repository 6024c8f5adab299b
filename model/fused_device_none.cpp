#include "model/fused_device_kernels.h"

// Stands for model/fused_device_*.cu in a build without CUDA, where no tensor lies on a device.

namespace tmd::model::device {

namespace {
[[noreturn]] void refuse() { tmd::device::refuse("this program was built without CUDA"); }
}  // namespace

void norm_forward(const NormCall&, int64_t, Stream) { refuse(); }
void norm_backward(const NormCall&, int64_t, void*, Stream) { refuse(); }
void rms_forward(const RmsCall&, int64_t, RmsHalves, Stream) { refuse(); }
void rms_backward(const RmsCall&, int64_t, RmsHalves, Stream) { refuse(); }
void rms_weight_gradient(const RmsCall&, int64_t, void*, Stream) { refuse(); }
void gate_forward(const GateCall&, int64_t, Stream) { refuse(); }
void gate_backward(const GateCall&, int64_t, void*, Stream) { refuse(); }
void gelu_forward(Element, const void*, void*, int64_t, Stream) { refuse(); }
void gelu_backward(Element, const void*, const void*, void*, int64_t, Stream) { refuse(); }
void sum_rows(Element, const void*, int64_t, int64_t, int64_t, void*, Stream) { refuse(); }

}  // namespace tmd::model::device
