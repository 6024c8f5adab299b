#pragma once

namespace tmd::model {

/// Teaches LibTorch the operators of Wan's networks and of the discriminator on the meta device, as far as it
/// has them in Python only: norms, attention, convolutions. Results have the shapes, types and strides of the
/// CPU operators, and large scratch memory is allocated where those do. Once per process, before the first
/// use; later calls do nothing. Thread: one.
void register_meta_operators();

}  // namespace tmd::model
