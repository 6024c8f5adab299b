#include "base/device_reader.h"

#include <algorithm>
#include <cstring>

namespace tmd {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;

}  // namespace

DeviceReader::DeviceReader(int device) : device_(device) {
  const cuda::DeviceScope scope(device);
  stream_ = cuda::make_stream(cuda::Priority::kNormal);
  for (Piece& piece : pieces_) piece = {cuda::PinnedMemory(kPieceBytes), cuda::make_event()};
}

void DeviceReader::read(std::span<std::byte> to, const std::byte* from) {
  const cuda::DeviceScope scope(device_);
  const size_t count = (to.size() + kPieceBytes - 1) / kPieceBytes;
  const auto bytes_of = [&](size_t i) { return std::min(kPieceBytes, to.size() - i * kPieceBytes); };
  const auto start = [&](size_t i) {
    Piece& piece = pieces_[i % 2];
    cuda::copy_to_host(piece.memory.data(), from + i * kPieceBytes, bytes_of(i), stream_.get());
    cuda::record(piece.filled.get(), stream_.get());
  };
  if (count > 0) start(0);
  for (size_t i = 0; i < count; ++i) {
    if (i + 1 < count) start(i + 1);
    cuda::synchronize(pieces_[i % 2].filled.get());
    std::memcpy(to.data() + i * kPieceBytes, pieces_[i % 2].memory.data(), bytes_of(i));
  }
}

}  // namespace tmd
