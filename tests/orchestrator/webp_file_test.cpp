#include "orchestrator/webp_file.h"

#include <memory>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <webp/decode.h>
#include <webp/mux.h>

#include "base/error.h"
#include "orchestrator/pixels.h"

namespace tmd::orchestrator {
namespace {

using Mux = std::unique_ptr<WebPMux, decltype(&WebPMuxDelete)>;

Mux open(const std::vector<std::byte>& bytes) {
  const WebPData data = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  return {WebPMuxCreate(&data, 1), &WebPMuxDelete};
}

int frames_in(const std::vector<std::byte>& bytes) {
  int count = 0;
  EXPECT_EQ(WebPMuxNumChunks(open(bytes).get(), WEBP_CHUNK_ANMF, &count), WEBP_MUX_OK);
  return count;
}

struct Frame {
  int duration_ms = 0, width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

Frame frame_of(const std::vector<std::byte>& bytes, uint32_t number) {
  const Mux mux = open(bytes);
  WebPMuxFrameInfo info = {};
  EXPECT_EQ(WebPMuxGetFrame(mux.get(), number, &info), WEBP_MUX_OK);
  Frame frame;
  frame.duration_ms = info.duration;
  uint8_t* rgb = WebPDecodeRGB(info.bitstream.bytes, info.bitstream.size, &frame.width, &frame.height);
  frame.rgb.assign(rgb, rgb + 3 * frame.width * frame.height);
  WebPFree(rgb);
  WebPDataClear(&info.bitstream);
  return frame;
}

// 4 frames of 6 x 8 pixels that change everywhere.
at::Tensor video() { return at::linspace(-1, 1, 3 * 4 * 6 * 8, at::kFloat).view({3, 4, 6, 8}); }

TEST(EncodeWebp, every_frame_is_there_for_its_time) {
  const std::vector<std::byte> bytes = encode_webp(video(), {.frames_per_second = 10});
  EXPECT_EQ(frames_in(bytes), 4);
  for (uint32_t number = 1; number <= 4; ++number) EXPECT_EQ(frame_of(bytes, number).duration_ms, 100);
}

TEST(EncodeWebp, lossless_frames_have_the_same_pixels) {
  // Every pixel changes, so each frame is stored whole.
  const std::vector<std::byte> bytes = encode_webp(video());
  for (uint32_t number = 1; number <= 4; ++number) {
    const Frame frame = frame_of(bytes, number);
    EXPECT_EQ(frame.width, 8);
    EXPECT_EQ(frame.height, 6);
    EXPECT_EQ(frame.rgb, to_rgb_bytes(video().select(1, number - 1))) << "frame " << number;
  }
}

TEST(EncodeWebp, animation_repeats_for_ever) {
  WebPMuxAnimParams parameters = {};
  EXPECT_EQ(WebPMuxGetAnimationParams(open(encode_webp(video())).get(), &parameters), WEBP_MUX_OK);
  EXPECT_EQ(parameters.loop_count, 0);
}

TEST(EncodeWebp, lossy_is_smaller_and_near) {
  const at::Tensor large = (at::arange(64 * 64 * 3 * 2, at::kFloat).view({3, 2, 64, 64}) * 0.37).sin();
  const std::vector<std::byte> lossy = encode_webp(large, {.lossless = false, .quality = 50});
  EXPECT_LT(lossy.size(), encode_webp(large).size());
  EXPECT_EQ(frames_in(lossy), 2);
}

TEST(EncodeWebp, bad_input_is_an_error) {
  EXPECT_THROW(encode_webp(at::ones({3, 0, 4, 4})), Error);
  EXPECT_THROW(encode_webp(at::ones({3, 4, 4})), Error);
  EXPECT_THROW(encode_webp(video(), {.frames_per_second = 0}), Error);
  EXPECT_THROW(encode_webp(video(), {.lossless = false, .quality = 101}), Error);
}

}  // namespace
}  // namespace tmd::orchestrator
