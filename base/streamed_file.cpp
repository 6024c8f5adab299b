#include "base/streamed_file.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace tmd {
namespace {

constexpr size_t kBuffer = size_t{1} << 20;
constexpr size_t kAlignment = File::kDirectAlignment;

}  // namespace

StreamedFile::StreamedFile(const std::filesystem::path& final_path)
    : file_(final_path),
      direct_(File::open_to_write_directly(file_.temporary_path())),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kBuffer))) {
  if (!buffer_) throw std::bad_alloc();
}

void StreamedFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  if (offset != begin_ + fill_) {
    flush();
    begin_ = offset / kAlignment * kAlignment;
    from_ = fill_ = offset - begin_;
  }
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kBuffer - fill_);
    std::memcpy(buffer_.get() + fill_, bytes.data(), count);
    fill_ += count;
    bytes = bytes.subspan(count);
    if (fill_ < kBuffer) continue;
    flush();
    begin_ += kBuffer;
    from_ = fill_ = 0;
  }
}

// Whole blocks go past the cache; what lies in a block with other bytes of the file goes through it.
void StreamedFile::flush() {
  const std::span<const std::byte> held(buffer_.get(), fill_);
  size_t at = from_;
  if (at % kAlignment != 0) {
    const size_t end = std::min((at / kAlignment + 1) * kAlignment, fill_);
    file_.write_at(begin_ + at, held.subspan(at, end - at));
    at = end;
  }
  const size_t whole = (fill_ - at) / kAlignment * kAlignment;
  if (whole > 0) write_block(begin_ + at, held.subspan(at, whole));
  at += whole;
  if (at < fill_) file_.write_at(begin_ + at, held.subspan(at));
}

void StreamedFile::write_block(uint64_t offset, std::span<const std::byte> bytes) {
  if (direct_ && direct_->write_directly(offset, bytes)) return;
  direct_.reset();
  file_.write_at(offset, bytes);
}

void StreamedFile::commit() {
  flush();
  from_ = fill_;
  if (direct_) direct_->close();
  file_.commit();
}

}  // namespace tmd
