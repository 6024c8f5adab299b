#include "data/check.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

TEST(CheckDataSet, real_clips_are_good_and_normalised) {
  DataSet set({"tests/golden/clips_slice.h5"});
  const CheckReport report = check_data_set(set);
  EXPECT_TRUE(report.is_good());
  EXPECT_EQ(report.samples, 72);
  EXPECT_EQ(report.sealed_files, 0);
  EXPECT_EQ(report.data_hash, set.data_hash());
  ASSERT_EQ(report.mean.size(), 16u);
  for (double mean : report.mean) EXPECT_LT(std::abs(mean), 0.25);
  for (double std : report.std) EXPECT_NEAR(std, 1, 0.35);
  EXPECT_NE(describe(report).find("72 samples in 1 files"), std::string::npos);
  EXPECT_NE(describe(report).find("all samples are good"), std::string::npos);
}

TEST(CheckDataSet, mean_and_std_of_known_values) {
  const TemporaryFolder folder;
  const LatentHeader header = small_header(2);
  write_small_file(folder / "x.h5", header);
  DataSet set({folder / "x.h5"});
  const at::Tensor all =
      at::stack({small_sample(header, 0).latent, small_sample(header, 1).latent}).to(at::kDouble);
  const at::Tensor channel = all.select(1, 4);
  const CheckReport report = check_data_set(set);
  EXPECT_NEAR(report.mean[4], channel.mean().item<double>(), 1e-12);
  EXPECT_NEAR(report.std[4], channel.std(false).item<double>(), 1e-12);
}

TEST(CheckDataSet, names_every_bad_sample) {
  const TemporaryFolder folder;
  const LatentHeader header = small_header();
  write_small_file(folder / "x.h5", header);
  {
    Hdf5File file = Hdf5File::open_for_update(folder / "x.h5");
    const std::vector<float> bad(header.latent_elements(), std::numeric_limits<float>::quiet_NaN());
    for (int64_t row : {1, 4}) file.dataset("latents").write_rows(row, 1, std::as_bytes(std::span(bad)));
    file.close();
  }
  DataSet set({folder / "x.h5"});
  const CheckReport report = check_data_set(set);
  ASSERT_EQ(report.bad.size(), 2u);
  EXPECT_EQ(report.bad[1].name, (folder / "x.h5").string() + " sample 4");
  const std::string text = describe(report, 1);
  EXPECT_NE(text.find("BAD " + report.bad[0].name), std::string::npos);
  EXPECT_EQ(text.find("BAD " + report.bad[1].name), std::string::npos) << "only one is named";
  EXPECT_NE(text.find("2 bad samples"), std::string::npos);
}

TEST(CheckDataSet, prompt_list) {
  const TemporaryFolder folder;
  LatentHeader header = small_header();
  header.has_latents = false;
  write_small_file(folder / "x.h5", header);
  DataSet set({folder / "x.h5"});
  const CheckReport report = check_data_set(set);
  EXPECT_TRUE(report.is_good());
  EXPECT_TRUE(report.mean.empty());
  EXPECT_NE(describe(report).find("no latents"), std::string::npos);
}

}  // namespace
}  // namespace tmd::data
