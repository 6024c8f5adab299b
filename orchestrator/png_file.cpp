#include "orchestrator/png_file.h"

#include <png.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/publish.h"
#include "orchestrator/pixels.h"

namespace tmd::orchestrator {

std::vector<std::byte> encode_png(const at::Tensor& rgb) {
  const std::vector<uint8_t> pixels = to_rgb_bytes(rgb);
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.format = PNG_FORMAT_RGB;
  image.height = static_cast<png_uint_32>(rgb.size(1));
  image.width = static_cast<png_uint_32>(rgb.size(2));
  const auto write = [&](void* memory, png_alloc_size_t& size_bytes) {
    if (png_image_write_to_memory(&image, memory, &size_bytes, 0, pixels.data(), 0, nullptr) == 0)
      throw Error(ErrorKind::kInternal, fmt::format("encoding a PNG of {} x {} pixels: {}", image.width,
                                                    image.height, image.message));
  };
  png_alloc_size_t size_bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<std::byte> bytes(size_bytes);
  write(bytes.data(), size_bytes);
  bytes.resize(size_bytes);
  return bytes;
}

void write_png(const std::filesystem::path& path, const at::Tensor& rgb) {
  publish_file(path, encode_png(rgb));
}

}  // namespace tmd::orchestrator
