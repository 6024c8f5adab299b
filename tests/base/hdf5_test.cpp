#include "base/hdf5.h"

#include <array>
#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd {
namespace {

constexpr const char* kDefaults = "tests/golden/h5py_defaults.h5";
constexpr const char* kCompressed = "tests/golden/h5py_gzip.h5";
constexpr const char* kClips = "tests/golden/clips_slice.h5";

class Hdf5FileTest : public testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("tmd-hdf5-" + std::to_string(getpid()) + ".h5");
  void TearDown() override { std::filesystem::remove(path_); }
};

void expect_kind(ErrorKind kind, const std::string& part, auto action) {
  try {
    action();
    ADD_FAILURE() << "no error, expected one with \"" << part << "\"";
  } catch (const Error& error) {
    EXPECT_EQ(name(error.kind()), name(kind)) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_F(Hdf5FileTest, write_and_read_rows_of_every_type) {
  const std::array<ElementType, 7> types = {
      ElementType::kFloat16, ElementType::kFloat32, ElementType::kFloat64, ElementType::kUint16,
      ElementType::kInt32,   ElementType::kInt64,   ElementType::kUint64};
  const std::array<int64_t, 2> shape = {3, 5}, chunk = {1, 5};
  std::vector<std::byte> row(5 * 8);
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(i * 37 + 1);
  {
    Hdf5File file = Hdf5File::create(path_);
    for (ElementType type : types) {
      file.create_dataset(std::string(name(type)), type, shape, chunk)
          .write_rows(1, 1, std::span(row).first(5 * size_bytes(type)));
    }
    file.close();
  }
  const Hdf5File file = Hdf5File::open(path_);
  for (ElementType type : types) {
    const Hdf5Dataset dataset = file.dataset(std::string(name(type)));
    EXPECT_EQ(dataset.info().type, type);
    EXPECT_EQ(dataset.info().layout, DatasetLayout::kChunked);
    EXPECT_EQ(dataset.info().chunk, std::vector<int64_t>({1, 5}));
    std::vector<std::byte> read(2 * 5 * size_bytes(type));
    dataset.read_rows(1, 2, read);
    const auto middle = static_cast<ptrdiff_t>(read.size() / 2);
    EXPECT_TRUE(std::equal(read.begin(), read.begin() + middle, row.begin())) << name(type);
    EXPECT_EQ(std::count(read.begin() + middle, read.end(), std::byte{0}), middle)
        << "the row that nobody wrote";
  }
}

TEST_F(Hdf5FileTest, attributes_round_trip) {
  const std::array<float, 3> numbers = {1.5f, -2.f, 0.f};
  Hdf5File file = Hdf5File::create(path_);
  Hdf5Attributes attributes = file.attributes();
  attributes.write_text("text", "Grüße");
  attributes.write_text("empty", "");
  attributes.write_integer("integer", -7);
  attributes.write_unsigned("largest", ~uint64_t{0});
  attributes.write_number("number", 0.25);
  attributes.write_numbers("numbers", numbers);
  attributes.write_bool("yes", true);
  EXPECT_EQ(attributes.text("text"), "Grüße");
  EXPECT_EQ(attributes.text("empty"), "");
  EXPECT_EQ(attributes.numbers("integer"), std::vector<double>{-7});
  EXPECT_EQ(attributes.numbers("number"), std::vector<double>{0.25});
  EXPECT_EQ(attributes.numbers("numbers"), std::vector<double>({1.5, -2, 0}));
  EXPECT_EQ(attributes.numbers("yes"), std::vector<double>{1});
  EXPECT_EQ(attributes.unsigned_integer("largest"), ~uint64_t{0});
  EXPECT_FALSE(attributes.unsigned_integer("absent").has_value());
  for (const char* other : {"number", "numbers", "yes", "text"})
    expect_kind(ErrorKind::kData, "must be one integer", [&] { attributes.unsigned_integer(other); });
  expect_kind(ErrorKind::kData, "'integer' of", [&] { attributes.unsigned_integer("integer"); });
  EXPECT_FALSE(attributes.text("absent").has_value());
  EXPECT_FALSE(attributes.numbers("absent").has_value());
  expect_kind(ErrorKind::kData, "'text'", [&] { attributes.numbers("text"); });
  expect_kind(ErrorKind::kData, "'numbers'", [&] { attributes.text("numbers"); });
  expect_kind(ErrorKind::kIo, "H5Acreate2", [&] { attributes.write_integer("integer", 1); });
}

TEST_F(Hdf5FileTest, strings_round_trip) {
  const std::vector<std::string> strings = {"one", "", "drei ½"};
  {
    Hdf5File file = Hdf5File::create(path_);
    file.create_dataset("strings", ElementType::kString, std::array<int64_t, 1>{3}).write_strings(strings);
  }
  const Hdf5Dataset dataset = Hdf5File::open(path_).dataset("strings");
  EXPECT_EQ(dataset.read_strings(0, 3), strings);
  EXPECT_EQ(dataset.read_strings(2, 1), std::vector<std::string>{"drei ½"});
}

TEST_F(Hdf5FileTest, scalar_and_update) {
  {
    Hdf5File file = Hdf5File::create(path_);
    const int32_t value = 42;
    file.create_dataset("scalar", ElementType::kInt32, {})
        .write_rows(0, 1, std::as_bytes(std::span(&value, 1)));
    file.close();
  }
  Hdf5File file = Hdf5File::open_for_update(path_);
  EXPECT_EQ(file.dataset("scalar").read_integers(), std::vector<int64_t>{42});
  EXPECT_TRUE(file.dataset("scalar").info().shape.empty());
  EXPECT_FALSE(file.has("more"));
  file.create_dataset("more", ElementType::kUint64, std::array<int64_t, 1>{2});
  EXPECT_TRUE(file.has("more"));
}

TEST_F(Hdf5FileTest, h5py_layouts_and_types) {
  const Hdf5File defaults = Hdf5File::open(kDefaults), compressed = Hdf5File::open(kCompressed),
                 clips = Hdf5File::open(kClips);
  EXPECT_EQ(defaults.dataset("latents").info().layout, DatasetLayout::kContiguous);
  EXPECT_EQ(defaults.dataset("latents").info().type, ElementType::kFloat32);
  EXPECT_EQ(compressed.dataset("latents").info().layout, DatasetLayout::kCompressed);
  EXPECT_EQ(compressed.dataset("latents").info().type, ElementType::kUint16);
  EXPECT_EQ(clips.dataset("latents").info().type, ElementType::kFloat16);
  EXPECT_EQ(clips.dataset("latents").info().shape, std::vector<int64_t>({72, 16, 4, 8, 12}));
  EXPECT_EQ(clips.dataset("latents").info().chunk, std::vector<int64_t>({1, 16, 4, 8, 12}));
}

TEST_F(Hdf5FileTest, h5py_strings_and_numbers) {
  const Hdf5File defaults = Hdf5File::open(kDefaults), compressed = Hdf5File::open(kCompressed);
  EXPECT_EQ(defaults.attributes().text("text_encoder"), "encoder") << "fixed length";
  EXPECT_EQ(compressed.attributes().text("text_encoder"), "encoder") << "variable length";
  EXPECT_EQ(defaults.attributes().numbers("normalized"), std::vector<double>{1}) << "h5py's bool";
  EXPECT_EQ(compressed.attributes().numbers("normalized"), std::vector<double>{1}) << "uint8";
  EXPECT_EQ(defaults.attributes().numbers("latent_std"), std::vector<double>({1, 2})) << "int64 array";
  EXPECT_EQ(defaults.dataset("prompt").read_strings(0, 3),
            std::vector<std::string>({"a", "zwei Wörter", ""}));
  EXPECT_EQ(compressed.dataset("prompt").read_strings(1, 1), std::vector<std::string>{"two words"});
  EXPECT_EQ(compressed.dataset("text_length").read_integers(), std::vector<int64_t>({1, 2, 1}));
}

TEST_F(Hdf5FileTest, open_bad_files) {
  expect_kind(ErrorKind::kData, "no such file", [&] { Hdf5File::open("/nowhere/x.h5"); });
  expect_kind(ErrorKind::kData, "folder", [&] { Hdf5File::open("tests"); });
  expect_kind(ErrorKind::kData, "not an HDF5 file", [&] { Hdf5File::open("CMakeLists.txt"); });
  std::filesystem::copy_file(kClips, path_);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  expect_kind(ErrorKind::kData, "truncated", [&] { Hdf5File::open(path_); });
  std::filesystem::resize_file(path_, 0);
  expect_kind(ErrorKind::kData, "not an HDF5 file", [&] { Hdf5File::open(path_); });
  expect_kind(ErrorKind::kIo, "H5Fcreate", [&] { Hdf5File::create("/nowhere/x.h5"); });
}

TEST_F(Hdf5FileTest, misuse_names_the_dataset) {
  const Hdf5File file = Hdf5File::open(kDefaults);
  expect_kind(ErrorKind::kData, "/absent", [&] { file.dataset("absent"); });
  const Hdf5Dataset latents = file.dataset("latents");
  expect_kind(ErrorKind::kData, "/latents of tests/golden/h5py_defaults.h5",
              [&] { latents.read_integers(); });
  expect_kind(ErrorKind::kData, "/latents", [&] { latents.read_strings(0, 1); });
  std::vector<std::byte> row(8 * 4);
  expect_kind(ErrorKind::kInternal, "rows 3 to 3", [&] { latents.read_rows(3, 1, row); });
  expect_kind(ErrorKind::kInternal, "buffer", [&] { latents.read_rows(0, 2, row); });
}

TEST_F(Hdf5FileTest, damaged_chunk_reports_the_error_stack) {
  std::filesystem::copy_file(kCompressed, path_);
  uint64_t size = std::filesystem::file_size(path_);
  std::string bytes(size, ' ');
  std::ifstream(path_, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(size));
  // A zlib stream of h5py starts with 78 5e; damage every one of them.
  for (size_t at = bytes.find("\x78\x5e"); at != std::string::npos; at = bytes.find("\x78\x5e", at))
    bytes[at] = 0;
  std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(size));
  const Hdf5Dataset latents = Hdf5File::open(path_).dataset("latents");
  std::vector<std::byte> row(8 * 2);
  expect_kind(ErrorKind::kIo, "H5Dread failed", [&] { latents.read_rows(0, 1, row); });
  expect_kind(ErrorKind::kIo, "inflate() failed", [&] { latents.read_rows(0, 1, row); });
}

TEST_F(Hdf5FileTest, dataset_outlives_its_file) {
  std::optional<Hdf5Dataset> dataset;
  {
    Hdf5File first = Hdf5File::open(kDefaults);
    Hdf5File moved = std::move(first);
    dataset = moved.dataset("text_length");
  }
  EXPECT_EQ(dataset->read_integers(), std::vector<int64_t>({1, 2, 1}));
}

}  // namespace
}  // namespace tmd
