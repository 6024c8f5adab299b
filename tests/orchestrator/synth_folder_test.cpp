#include "orchestrator/synth_folder.h"

#include <fstream>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "data/writer.h"
#include "orchestrator/prompt_file.h"
#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::orchestrator {
namespace {

using data::expect_error;

constexpr uint64_t kSeed = 7;

SynthSettings settings(int64_t steps = 4) {
  return {{"seed", kSeed}, {"sampler", {{"solver", "euler"}, {"steps", steps}}}, {"weights", "ab"}};
}

TEST(FirstDifference, is_named_with_its_place_and_both_values) {
  EXPECT_FALSE(first_difference(settings(), settings()).has_value());
  EXPECT_EQ(first_difference(settings(6), settings()), "sampler.steps: 6 there, 4 here");
  SynthSettings theirs = settings(6);
  theirs["seed"] = 8;
  EXPECT_EQ(first_difference(theirs, settings()), "seed: 8 there, 7 here");
  theirs = settings();
  theirs.erase("weights");
  EXPECT_EQ(first_difference(theirs, settings()), "weights: nothing there, ab here");
  EXPECT_EQ(first_difference({}, settings()), "seed: nothing there, 7 here");
  EXPECT_EQ(first_difference({{"seed", kSeed}, {"sampler", "euler"}}, settings()),
            "sampler.solver: nothing there, euler here");
  theirs = settings();
  theirs["later"] = 1;
  EXPECT_FALSE(first_difference(theirs, settings()).has_value());
}

// Ten samples in parts of four.
class SynthFolderTest : public testing::Test {
 protected:
  void write(int64_t index, int64_t samples) {
    data::LatentHeader header = data::small_header(samples);
    header.has_checksum = true;
    header.noise = parts_.first(index);
    header.generator = settings().dump();
    data::write_small_file(parts_.path(index), header);
  }

  data::TemporaryFolder folder_;
  SynthFolder parts_{folder_.path(), kSeed, 10, 4};
};

TEST_F(SynthFolderTest, parts_have_names_numbers_and_sizes) {
  EXPECT_EQ(parts_.parts(), 3);
  EXPECT_EQ(parts_.path(2), folder_ / "synth_00002.h5");
  EXPECT_EQ(parts_.first(2), (data::NoiseOf{kSeed, 8}));
  EXPECT_EQ(parts_.samples(1), 4);
  EXPECT_EQ(parts_.samples(2), 2);
  EXPECT_EQ(SynthFolder(folder_.path(), kSeed, 8, 4).parts(), 2);
}

TEST_F(SynthFolderTest, present_are_those_of_its_names) {
  EXPECT_TRUE(parts_.present().empty());
  write(2, 2);
  write(0, 4);
  for (const char* name :
       {"synth_1.h5", "synth_00001.h5.tmp-12", "synth_.h5", "synth_-0001.h5", "s", "other.h5"})
    std::ofstream(folder_ / name) << "x";
  EXPECT_EQ(parts_.present(), (std::vector<int64_t>{0, 2}));
}

TEST_F(SynthFolderTest, parts_of_this_set_are_taken) {
  write(0, 4);
  write(2, 2);
  for (const int64_t index : {0, 2}) {
    EXPECT_NO_THROW(parts_.check_made_with(index, settings()));
    EXPECT_NO_THROW(parts_.check_intact(index));
  }
}

TEST_F(SynthFolderTest, parts_of_another_set_are_refused) {
  write(0, 4);
  expect_error(ErrorKind::kConfig, "synth_00000.h5 was made with other settings: sampler.steps: 4 there, 5",
               [&] { parts_.check_made_with(0, settings(5)); });
  write(1, 3);
  expect_error(ErrorKind::kConfig, "synth_00001.h5 holds 3 samples, with --count 10 it would hold 4",
               [&] { parts_.check_made_with(1, settings()); });
  std::filesystem::rename(parts_.path(0), parts_.path(1));
  expect_error(ErrorKind::kConfig, "synth_00001.h5 does not start with sample 4 of seed 7",
               [&] { parts_.check_made_with(1, settings()); });
  write(3, 4);
  expect_error(ErrorKind::kConfig, "synth_00003.h5 lies beyond the 3 parts of --count 10",
               [&] { parts_.check_made_with(3, settings()); });
}

TEST_F(SynthFolderTest, files_that_it_has_not_made_are_refused) {
  data::write_small_file(parts_.path(0), data::small_header(4));
  expect_error(ErrorKind::kConfig, "seed: nothing there, 7 here",
               [&] { parts_.check_made_with(0, settings()); });
}

// Until it ends no file can be opened.
class NoMoreFiles {
 public:
  NoMoreFiles() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none = {.rlim_cur = 0, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoMoreFiles() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

TEST_F(SynthFolderTest, parts_that_cannot_be_read_are_not_called_broken) {
  write(0, 4);
  const NoMoreFiles none;
  expect_error(ErrorKind::kIo, "synth_00000.h5 cannot be read",
               [&] { parts_.check_made_with(0, settings()); });
  expect_error(ErrorKind::kIo, "synth_00000.h5 cannot be read", [&] { parts_.check_intact(0); });
}

// Three prompts, of which `other` (if it is one) has an embedding of its own.
uint64_t hash_of_three(const std::filesystem::path& file, int64_t other, bool is_sealed,
                       double negative = -1) {
  data::LatentHeader header = data::small_header(3);
  header.has_checksum = is_sealed;
  data::LatentWriter writer(file, header);
  for (int64_t i = 0; i < header.samples; ++i) {
    data::Sample sample = data::small_sample(header, i);
    if (i == other) sample.text[0].add_(1);
    writer.write(i, sample);
  }
  at::Tensor text = at::zeros(header.text_shape, at::kFloat);
  text[0].fill_(negative);
  writer.write_negative_text({text, 1});
  writer.finish();
  return prompts_hash(data::DataSet({file}));
}

TEST_F(SynthFolderTest, every_prompt_and_the_negative_one_count) {
  const auto path = folder_ / "prompts.h5";
  const uint64_t hash = hash_of_three(path, -1, true);
  EXPECT_EQ(hash_of_three(path, -1, true), hash);
  EXPECT_EQ(hash_of_three(path, -1, false), hash);
  EXPECT_NE(hash_of_three(path, 1, true), hash);
  EXPECT_NE(hash_of_three(path, 1, false), hash);
  EXPECT_NE(hash_of_three(path, -1, true, -2), hash);
}

TEST_F(SynthFolderTest, broken_parts_are_named) {
  write(0, 4);
  const auto size = std::filesystem::file_size(parts_.path(0));
  std::filesystem::resize_file(parts_.path(0), size / 2);
  expect_error(ErrorKind::kData, "synth_00000.h5 is broken", [&] { parts_.check_made_with(0, settings()); });
  write(1, 4);
  {
    Hdf5File file = Hdf5File::open_for_update(parts_.path(1));
    Hdf5Dataset latents = file.dataset("latents");
    std::vector<float> row(static_cast<size_t>(latents.info().row_elements()), 0.5f);
    latents.write_rows(2, 1, std::as_bytes(std::span(row)));
    file.close();
  }
  EXPECT_NO_THROW(parts_.check_made_with(1, settings()));
  expect_error(ErrorKind::kData, "synth_00001.h5 is broken: sample 2: checksum",
               [&] { parts_.check_intact(1); });
}

TEST_F(SynthFolderTest, unfinished_files_of_its_own_are_removed) {
  write(0, 4);
  for (const char* name : {"synth_00001.h5.tmp-12", "other.h5.tmp-12", "synth_1.h5.tmp-12"})
    std::ofstream(folder_ / name) << "x";
  parts_.remove_unfinished();
  EXPECT_FALSE(std::filesystem::exists(folder_ / "synth_00001.h5.tmp-12"));
  for (const char* name : {"synth_00000.h5", "other.h5.tmp-12", "synth_1.h5.tmp-12"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / name)) << name;
}

}  // namespace
}  // namespace tmd::orchestrator
