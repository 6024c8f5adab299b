#include "orchestrator/webp_file.h"

#include <cmath>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "base/error.h"
#include "base/publish.h"
#include "base/unique_handle.h"
#include "orchestrator/pixels.h"

namespace tmd::orchestrator {
namespace {

void release_encoder(WebPAnimEncoder* encoder) noexcept { WebPAnimEncoderDelete(encoder); }
using Encoder = UniqueHandle<WebPAnimEncoder*, nullptr, &release_encoder>;

// A WebPPicture frees what it points to only when told.
class Picture {
 public:
  Picture(const std::vector<uint8_t>& rgb, int width, int height) {
    ensure(WebPPictureInit(&picture_) != 0, "libwebp is the version of its headers");
    picture_.use_argb = 1;
    picture_.width = width;
    picture_.height = height;
    ensure(WebPPictureImportRGB(&picture_, rgb.data(), 3 * width) != 0, "a WebP picture has memory");
  }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;
  ~Picture() { WebPPictureFree(&picture_); }
  WebPPicture* get() { return &picture_; }

 private:
  WebPPicture picture_ = {};
};

WebPConfig encoder_config(const WebpOptions& options) {
  WebPConfig config;
  ensure(WebPConfigInit(&config) != 0, "libwebp is the version of its headers");
  config.lossless = options.lossless ? 1 : 0;
  config.quality = options.lossless ? 75 : options.quality;  // lossless: effort, not fidelity
  config.exact = 1;
  ensure(WebPValidateConfig(&config) != 0, "WebP quality lies between 0 and 100");
  return config;
}

// `frame` null: the end of the last frame, which tells how long it is shown.
void add_frame(const Encoder& encoder, WebPPicture* frame, int64_t number, double milliseconds,
               const WebPConfig& config) {
  const int start = static_cast<int>(std::lround(static_cast<double>(number) * milliseconds));
  if (WebPAnimEncoderAdd(encoder.get(), frame, start, &config) == 0)
    throw Error(ErrorKind::kInternal, fmt::format("encoding frame {} of an animated WebP: {}", number,
                                                  WebPAnimEncoderGetError(encoder.get())));
}

std::vector<std::byte> assemble(const Encoder& encoder) {
  WebPData data;
  WebPDataInit(&data);
  const bool ok = WebPAnimEncoderAssemble(encoder.get(), &data) != 0;
  const auto* begin = reinterpret_cast<const std::byte*>(data.bytes);
  std::vector<std::byte> bytes(begin, begin + data.size);
  WebPDataClear(&data);
  check(ok, ErrorKind::kInternal,
        fmt::format("assembling an animated WebP: {}", WebPAnimEncoderGetError(encoder.get())));
  return bytes;
}

}  // namespace

std::vector<std::byte> encode_webp(const at::Tensor& video, const WebpOptions& options) {
  ensure(video.dim() == 4 && video.size(0) == 3 && video.numel() > 0,
         "a video is [3, frames, height, width]");
  ensure(options.frames_per_second > 0, "a frame rate is positive");
  ensure(video.size(2) <= WEBP_MAX_DIMENSION && video.size(3) <= WEBP_MAX_DIMENSION,
         "a WebP has at most 16383 pixels on a side");
  const int height = static_cast<int>(video.size(2)), width = static_cast<int>(video.size(3));
  const WebPConfig config = encoder_config(options);
  const double milliseconds = 1000 / options.frames_per_second;
  const Encoder encoder(WebPAnimEncoderNew(width, height, nullptr));
  ensure(encoder.is_valid(), "an animated WebP has memory");
  for (int64_t f = 0; f < video.size(1); ++f) {
    Picture picture(to_rgb_bytes(video.select(1, f)), width, height);
    add_frame(encoder, picture.get(), f, milliseconds, config);
  }
  add_frame(encoder, nullptr, video.size(1), milliseconds, config);
  return assemble(encoder);
}

void write_webp(const std::filesystem::path& path, const at::Tensor& video, const WebpOptions& options) {
  publish_file(path, encode_webp(video, options));
}

}  // namespace tmd::orchestrator
