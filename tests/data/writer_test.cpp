#include "data/writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/latent_file.h"
#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

int64_t entries(const TemporaryFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(LatentWriter, round_trip_of_every_stored_type) {
  for (StoredType type : {StoredType::kFloat32, StoredType::kFloat16, StoredType::kBfloat16}) {
    const TemporaryFolder folder;
    LatentHeader header = small_header();
    header.latent_type = header.text_type = type;
    write_small_file(folder / "x.h5", header);
    const LatentFile file(folder / "x.h5");
    EXPECT_EQ(file.header(), header);
    for (int64_t i = 0; i < header.samples; ++i) {
      const Sample sample = file.read_sample(i), expected = small_sample(header, i);
      const at::Tensor stored =
          type == StoredType::kBfloat16 ? expected.latent.to(at::kBFloat16).to(at::kFloat) : expected.latent;
      EXPECT_TRUE(sample.latent.equal(stored));
      EXPECT_TRUE(sample.text.equal(expected.text));
      EXPECT_EQ(sample.text_length, expected.text_length);
      EXPECT_EQ(sample.prompt, expected.prompt);
    }
  }
}

TEST(LatentWriter, one_chunk_per_sample) {
  const TemporaryFolder folder;
  write_small_file(folder / "x.h5", small_header());
  const DatasetInfo info = Hdf5File::open(folder / "x.h5").dataset("latents").info();
  EXPECT_EQ(info.layout, DatasetLayout::kChunked);
  EXPECT_EQ(info.chunk, std::vector<int64_t>({1, 12, 2, 2, 3}));
}

TEST(LatentWriter, checksums_agree_with_the_stored_bytes) {
  const TemporaryFolder folder;
  LatentHeader header = small_header();
  header.has_checksum = true;
  header.latent_type = StoredType::kFloat16;
  write_small_file(folder / "x.h5", header);
  const LatentFile file(folder / "x.h5");
  for (int64_t i = 0; i < header.samples; ++i) EXPECT_EQ(file.stored_checksum(i), file.compute_checksum(i));
  EXPECT_NE(file.stored_checksum(0), file.stored_checksum(1));
}

TEST(LatentWriter, unfinished_file_leaves_nothing) {
  const TemporaryFolder folder;
  {
    LatentWriter writer(folder / "x.h5", small_header());
    writer.write(0, small_sample(small_header(), 0));
    EXPECT_FALSE(std::filesystem::exists(folder / "x.h5"));
    EXPECT_EQ(entries(folder), 1);
    expect_error(ErrorKind::kInternal, "every row was written", [&] { writer.finish(); });
  }
  EXPECT_EQ(entries(folder), 0);
}

TEST(LatentWriter, finish_replaces_an_older_file) {
  const TemporaryFolder folder;
  write_small_file(folder / "x.h5", small_header(2));
  write_small_file(folder / "x.h5", small_header(3));
  EXPECT_EQ(LatentFile(folder / "x.h5").header().samples, 3);
  EXPECT_EQ(entries(folder), 1);
}

TEST(LatentWriter, write_refuses_what_does_not_fit) {
  const TemporaryFolder folder;
  LatentHeader header = small_header();
  header.latent_type = StoredType::kFloat16;
  LatentWriter writer(folder / "x.h5", header);
  Sample sample = small_sample(header, 0);
  sample.latent[0][0][0][0].fill_(1e5);
  expect_error(ErrorKind::kData, "sample 0", [&] { writer.write(0, sample); });
  sample.latent = at::zeros({12, 2, 2, 2});
  expect_error(ErrorKind::kInternal, "shape of the header", [&] { writer.write(0, sample); });
  writer.write(0, small_sample(header, 0));
  expect_error(ErrorKind::kInternal, "written once", [&] { writer.write(0, small_sample(header, 0)); });
  expect_error(ErrorKind::kIo, "H5Fcreate", [&] { LatentWriter("/nowhere/x.h5", header); });
}

TEST(SealFile, adds_checksums_once) {
  const TemporaryFolder folder;
  std::filesystem::copy_file("tests/golden/clips_slice.h5", folder / "x.h5");
  std::filesystem::permissions(folder / "x.h5", std::filesystem::perms::owner_all);
  const uint64_t before = LatentFile(folder / "x.h5").compute_checksum(5);
  EXPECT_EQ(seal_file(folder / "x.h5"), 72);
  const LatentFile file(folder / "x.h5");
  EXPECT_TRUE(file.header().has_checksum);
  EXPECT_EQ(file.stored_checksum(5), before);
  EXPECT_EQ(file.compute_checksum(5), before);
  expect_error(ErrorKind::kData, "sealed already", [&] { seal_file(folder / "x.h5"); });
}

}  // namespace
}  // namespace tmd::data
