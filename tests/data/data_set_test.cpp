#include "data/data_set.h"

#include <array>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

class DataSetTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const LatentHeader& header) {
    write_small_file(folder_ / name, header);
    return folder_ / name;
  }
  // Overwrites elements of a row of float32 in an existing file, as decaying storage would.
  void damage(const std::string& name, const std::string& dataset, int64_t row, float value) {
    Hdf5File file = Hdf5File::open_for_update(folder_ / name);
    Hdf5Dataset target = file.dataset(dataset);
    std::vector<float> values(target.info().row_elements());
    target.read_rows(row, 1, std::as_writable_bytes(std::span(values)));
    values.back() = value;
    target.write_rows(row, 1, std::as_bytes(std::span(values)));
    file.close();
  }
  static std::string problem(DataSet& set, int64_t index) {
    const ReadResult result = set.read(index);
    const auto* bad = std::get_if<BadSample>(&result);
    return bad ? bad->name + ": " + bad->problem : "";
  }

  TemporaryFolder folder_;
};

TEST_F(DataSetTest, read_over_several_files) {
  DataSet set({write("b.h5", small_header(2)), write("a.h5", small_header(3))});
  EXPECT_EQ(set.size(), 5);
  EXPECT_EQ(set.place(1).file, 0);
  EXPECT_EQ(set.place(2).file, 1);
  EXPECT_EQ(set.place(4).row, 2);
  EXPECT_EQ(set.sample_name(4), (folder_ / "a.h5").string() + " sample 2");
  for (int64_t i = 0; i < 5; ++i) {
    const Sample sample = std::get<Sample>(set.read(i)),
                 expected = small_sample(set.header(), i < 2 ? i : i - 2);
    EXPECT_TRUE(sample.latent.equal(expected.latent));
    EXPECT_TRUE(sample.text.equal(expected.text));
    EXPECT_EQ(sample.prompt, expected.prompt);
  }
  EXPECT_THROW(set.read(5), Error);
  EXPECT_TRUE(set.has_negative_text());
  EXPECT_EQ(set.negative_text().text[0][0].item<float>(), -1);
}

TEST_F(DataSetTest, real_clips_are_good) {
  DataSet set({"tests/golden/clips_slice.h5"});
  for (int64_t i = 0; i < set.size(); ++i) EXPECT_EQ(problem(set, i), "");
}

TEST_F(DataSetTest, read_finds_checksum_damage) {
  LatentHeader header = small_header();
  header.has_checksum = true;
  {
    DataSet intact({write("x.h5", header)});
    for (int64_t i = 0; i < header.samples; ++i) EXPECT_EQ(problem(intact, i), "");
  }
  damage("x.h5", "latents", 3, 0.125f);
  damage("x.h5", "text", 1, 1e-30f);
  DataSet set({folder_ / "x.h5"});
  EXPECT_NE(problem(set, 3).find("x.h5 sample 3: checksum"), std::string::npos) << problem(set, 3);
  EXPECT_NE(problem(set, 1).find("checksum"), std::string::npos);
  EXPECT_EQ(problem(set, 2), "");
}

TEST_F(DataSetTest, read_finds_bad_values_without_checksum) {
  write("x.h5", small_header());
  damage("x.h5", "latents", 1, std::numeric_limits<float>::quiet_NaN());
  damage("x.h5", "latents", 2, -std::numeric_limits<float>::infinity());
  damage("x.h5", "text", 3, std::numeric_limits<float>::infinity());
  damage("x.h5", "text", 0, 0.5f);
  DataSet set({folder_ / "x.h5"});
  EXPECT_NE(problem(set, 1).find("sample 1: non-finite values in the latent"), std::string::npos);
  EXPECT_NE(problem(set, 2).find("non-finite values in the latent"), std::string::npos);
  EXPECT_NE(problem(set, 3).find("non-finite values in the text"), std::string::npos);
  EXPECT_NE(problem(set, 0).find("beyond text_length 0"), std::string::npos);
  EXPECT_EQ(problem(set, 4), "");
}

TEST_F(DataSetTest, read_finds_bad_text_length) {
  write("x.h5", small_header());
  {
    Hdf5File file = Hdf5File::open_for_update(folder_ / "x.h5");
    const std::array<int32_t, 2> lengths = {4, -1};
    file.dataset("text_length").write_rows(1, 2, std::as_bytes(std::span(lengths)));
    file.close();
  }
  DataSet set({folder_ / "x.h5"});
  EXPECT_NE(problem(set, 1).find("text_length is 4, expected 0 to 3"), std::string::npos);
  EXPECT_NE(problem(set, 2).find("text_length is -1"), std::string::npos);
}

TEST_F(DataSetTest, files_that_disagree) {
  const auto first = write("first.h5", small_header());
  const auto expect_refused = [&](const std::string& part, const std::function<void(LatentHeader&)>& change) {
    LatentHeader header = small_header();
    change(header);
    const auto other = write("other.h5", header);
    expect_error(ErrorKind::kData, part, [&] { DataSet({first, other}); });
  };
  expect_refused("latent shapes [12, 2, 2, 3] and [12, 2, 4, 3]",
                 [](LatentHeader& h) { h.latent_shape[2] = 4; });
  expect_refused("text shapes", [](LatentHeader& h) { h.text_shape[1] = 5; });
  expect_refused("codecs pixels-2x2 and dct-4x8x8", [](LatentHeader& h) { h.codec = "dct-4x8x8"; });
  expect_refused("latent_std", [](LatentHeader& h) { h.latent_std[0] = 3; });
  expect_refused("text encoders", [](LatentHeader& h) { h.text_encoder = "other"; });
  expect_refused("presence of /latents", [](LatentHeader& h) { h.has_latents = false; });
}

TEST_F(DataSetTest, data_hash_identifies_content_not_names) {
  const uint64_t hash = DataSet({write("x.h5", small_header())}).data_hash();
  std::filesystem::rename(folder_ / "x.h5", folder_ / "moved.h5");
  seal_file(folder_ / "moved.h5");
  EXPECT_EQ(DataSet({folder_ / "moved.h5"}).data_hash(), hash);
  EXPECT_NE(DataSet({write("y.h5", small_header(4))}).data_hash(), hash);
  LatentHeader header = small_header();
  header.latent_mean[3] = 0.25f;
  EXPECT_NE(DataSet({write("z.h5", header)}).data_hash(), hash);
  write("changed.h5", small_header());
  damage("changed.h5", "latents", 4, 0);
  EXPECT_NE(DataSet({folder_ / "changed.h5"}).data_hash(), hash) << "last sample";
}

TEST_F(DataSetTest, noise_of_samples_over_several_files) {
  LatentHeader with_noise = small_header(3);
  with_noise.noise = {~uint64_t{0} - 1, 40};
  const DataSet set({write("a.h5", with_noise), write("b.h5", small_header(2)), write("c.h5", with_noise)});
  EXPECT_EQ(set.noise_of(0), (NoiseOf{~uint64_t{0} - 1, 40}));
  EXPECT_EQ(set.noise_of(2), (NoiseOf{~uint64_t{0} - 1, 42}));
  EXPECT_FALSE(set.noise_of(3).has_value());
  EXPECT_FALSE(set.noise_of(4).has_value());
  EXPECT_EQ(set.noise_of(6), (NoiseOf{~uint64_t{0} - 1, 41}));
  expect_error(ErrorKind::kInternal, "within the data set", [&] { set.noise_of(8); });
}

TEST_F(DataSetTest, data_hash_knows_the_noise) {
  LatentHeader header = small_header();
  const uint64_t without = DataSet({write("a.h5", header)}).data_hash();
  header.noise = {1, 0};
  const uint64_t with = DataSet({write("b.h5", header)}).data_hash();
  header.noise->number = 5;
  EXPECT_NE(with, without);
  EXPECT_NE(DataSet({write("c.h5", header)}).data_hash(), with);
}

TEST_F(DataSetTest, resolve_files_in_stated_order) {
  for (const char* name : {"b2.h5", "b1.h5", "a.h5"}) write(name, small_header(1));
  const std::vector<std::string> patterns = {(folder_ / "b*.h5").string(), (folder_ / "a.h5").string()};
  EXPECT_EQ(resolve_files(patterns),
            (std::vector<std::filesystem::path>{folder_ / "b1.h5", folder_ / "b2.h5", folder_ / "a.h5"}));
  const std::vector<std::string> nothing = {(folder_ / "c*.h5").string()};
  expect_error(ErrorKind::kData, "nothing matches", [&] { resolve_files(nothing); });
  expect_error(ErrorKind::kData, "no data files", [] { resolve_files({}); });
  expect_error(ErrorKind::kData, "at least one file", [] { DataSet({}); });
}

}  // namespace
}  // namespace tmd::data
