#include "orchestrator/png_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <png.h>

#include "base/error.h"
#include "orchestrator/pixels.h"

namespace tmd::orchestrator {
namespace {

struct Decoded {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;
};

Decoded decode(const std::vector<std::byte>& bytes) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  EXPECT_NE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()), 0) << image.message;
  image.format = PNG_FORMAT_RGB;
  Decoded decoded{image.height, image.width, std::vector<uint8_t>(PNG_IMAGE_SIZE(image))};
  EXPECT_NE(png_image_finish_read(&image, nullptr, decoded.rgb.data(), 0, nullptr), 0) << image.message;
  return decoded;
}

// 5 x 7 pixels, all different.
at::Tensor picture() { return at::linspace(-1, 1, 3 * 5 * 7, at::kFloat).view({3, 5, 7}); }

TEST(EncodePng, decoder_sees_the_same_pixels) {
  const Decoded decoded = decode(encode_png(picture()));
  EXPECT_EQ(decoded.height, 5);
  EXPECT_EQ(decoded.width, 7);
  EXPECT_EQ(decoded.rgb, to_rgb_bytes(picture()));
}

TEST(EncodePng, same_picture_gives_the_same_bytes) {
  EXPECT_EQ(encode_png(picture()), encode_png(picture()));
}

TEST(EncodePng, one_pixel_is_a_picture_and_none_is_an_error) {
  EXPECT_EQ(decode(encode_png(at::ones({3, 1, 1}))).rgb, (std::vector<uint8_t>{255, 255, 255}));
  EXPECT_THROW(encode_png(at::ones({3, 0, 1})), Error);
}

TEST(WritePng, file_holds_the_encoded_picture) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("png_file_test_" + std::to_string(getpid()) + ".png");
  write_png(path, picture());
  std::ifstream in(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  const std::vector<std::byte> expected = encode_png(picture());
  EXPECT_EQ(content, std::string(reinterpret_cast<const char*>(expected.data()), expected.size()));
  std::filesystem::remove(path);
}

TEST(WritePng, missing_folder_is_an_io_error) {
  try {
    write_png("/nowhere/at/all.png", picture());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
  }
}

}  // namespace
}  // namespace tmd::orchestrator
