#include "base/safetensors.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd {
namespace {
namespace fs = std::filesystem;

fs::path file_of_this_test() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = info->name();
  for (char& letter : name) {
    if (letter == '/') letter = '_';
  }
  return fs::path(testing::TempDir()) / ("tmd_" + name + std::to_string(::getpid()) + ".safetensors");
}

/// A file with this header, as it stands, and this many bytes of data (0, 1, 2, ...).
fs::path write_raw(const std::string& header, size_t data_bytes, uint64_t claimed_bytes) {
  fs::path path = file_of_this_test();
  std::ofstream stream(path, std::ios::binary);
  auto prefix = std::bit_cast<std::array<char, 8>>(claimed_bytes);
  stream.write(prefix.data(), prefix.size());
  stream << header;
  for (size_t i = 0; i < data_bytes; ++i) stream.put(static_cast<char>(i));
  return path;
}

fs::path write_raw(const std::string& header, size_t data_bytes) {
  return write_raw(header, data_bytes, header.size());
}

template <class Function>
Error error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorKind::kInternal, "");
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(SafetensorsFile, entries_in_any_order_with_padding_and_metadata_are_read) {
  fs::path path =
      write_raw(R"({"b":{"data_offsets":[4,8],"dtype":"BF16","shape":[2,1]}, "__metadata__":{"format":"pt"},)"
                R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}     )",
                8);

  SafetensorsFile file(path);

  ASSERT_EQ(file.entries().size(), 2u);
  EXPECT_EQ(file.entries()[0].name, "a");
  EXPECT_TRUE(file.entries()[0].shape.empty());
  EXPECT_EQ(file.at("b").shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(file.at("b").dtype, "BF16");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.read(file.at("b"))[0], std::byte{4});
}

TEST(SafetensorsFile, part_of_a_tensor_is_read_from_its_offset) {
  SafetensorsFile file(write_raw(R"({"x":{"dtype":"U8","shape":[6],"data_offsets":[0,6]}})", 6));
  std::array<std::byte, 2> bytes{};

  file.read(file.at("x"), 3, bytes);

  EXPECT_EQ(bytes[0], std::byte{3});
  EXPECT_EQ(bytes[1], std::byte{4});
  EXPECT_EQ(error_of([&] { file.read(file.at("x"), 5, bytes); }).kind(), ErrorKind::kInternal);
}

TEST(SafetensorsFile, empty_tensors_and_empty_files_are_legal) {
  SafetensorsFile file(write_raw(R"({"n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                 R"("e":{"dtype":"F64","shape":[3,0],"data_offsets":[0,0]}})",
                                 4));
  EXPECT_EQ(file.at("e").size_bytes(), 0u);
  EXPECT_EQ(SafetensorsFile(write_raw("{}", 0)).entries().size(), 0u);
}

TEST(SafetensorsFile, every_dtype_of_the_format_has_its_width) {
  for (const char* dtype :
       {"F4",      "F6_E2M3",     "F6_E3M2",     "BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3",
        "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",  "U16", "F16", "BF16",    "I32",
        "U32",     "F32",         "C64",         "F64",  "I64", "U64"}) {
    std::optional<uint64_t> bits = safetensors_bits(dtype);
    ASSERT_TRUE(bits.has_value()) << dtype;
    std::string header = R"({"x":{"dtype":")" + std::string(dtype) + R"(","shape":[8],"data_offsets":[0,)" +
                         std::to_string(*bits) + "]}}";
    EXPECT_EQ(SafetensorsFile(write_raw(header, *bits)).at("x").size_bytes(), *bits) << dtype;
  }
  EXPECT_FALSE(safetensors_bits("F31").has_value());
}

TEST(SafetensorsFile, missing_tensor_names_file_and_tensor) {
  fs::path path = write_raw("{}", 0);
  SafetensorsFile file(path);

  Error error = error_of([&] { file.at("patch_embedding.weight"); });

  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_NE(std::string(error.what()).find("patch_embedding.weight"), std::string::npos);
  EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
}

TEST(SafetensorsFile, missing_file_is_an_io_error) {
  EXPECT_EQ(error_of([] { SafetensorsFile("/nonexistent.safetensors"); }).kind(), ErrorKind::kIo);
}

struct BrokenHeader {
  const char* situation;
  const char* header;
  size_t data_bytes;
  const char* message;  ///< part of it
};

class SafetensorsBroken : public testing::TestWithParam<BrokenHeader> {};

TEST_P(SafetensorsBroken, file_is_refused_with_its_name_and_the_reason) {
  fs::path path = write_raw(GetParam().header, GetParam().data_bytes);

  Error error = error_of([&] { SafetensorsFile file(path); });

  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
}

INSTANTIATE_TEST_SUITE_P(
    headers, SafetensorsBroken,
    testing::Values(
        BrokenHeader{"not_json", R"({"x":)", 0, "not JSON"},
        BrokenHeader{"not_an_object", "[1]", 0, "does not begin"},
        BrokenHeader{"leading_blank", " {}", 0, "does not begin"},
        BrokenHeader{"empty_header", "", 0, "does not begin"},
        BrokenHeader{"bytes_after_the_object", "{}x", 0, "not JSON"},
        BrokenHeader{"invalid_utf8", "{\"\xff\":{}}", 0, "not JSON"},
        BrokenHeader{"duplicate_name",
                     R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                     1, "\"x\" stands twice"},
        BrokenHeader{"duplicate_field",
                     R"({"x":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1,
                     "\"dtype\" stands twice"},
        BrokenHeader{"entry_is_no_object", R"({"x":3})", 0, "tensor \"x\""},
        BrokenHeader{"no_dtype", R"({"x":{"shape":[1],"data_offsets":[0,1]}})", 1, "no string \"dtype\""},
        BrokenHeader{"unknown_dtype", R"({"x":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4,
                     "unknown dtype \"F31\""},
        BrokenHeader{"no_shape", R"({"x":{"dtype":"U8","data_offsets":[0,1]}})", 1, "no list \"shape\""},
        BrokenHeader{"negative_shape", R"({"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1,
                     "holds -1"},
        BrokenHeader{"fractional_shape", R"({"x":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1,
                     "holds 1.0"},
        BrokenHeader{"no_offsets", R"({"x":{"dtype":"U8","shape":[1]}})", 1, "no list \"data_offsets\""},
        BrokenHeader{"one_offset", R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1,
                     "not a range"},
        BrokenHeader{"reversed_offsets", R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
                     "not a range"},
        BrokenHeader{"size_mismatch", R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
                     "needs 8"},
        BrokenHeader{"shape_overflow",
                     R"({"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0,
                     "overflows"},
        BrokenHeader{"extent_overflow",
                     R"({"x":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1,
                     "overflows"},
        BrokenHeader{"half_a_byte", R"({"x":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2,
                     "whole bytes"},
        BrokenHeader{"hole",
                     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                     3, "tensor \"b\": begins at offset 2 of the data where 1 is due (a hole)"},
        BrokenHeader{"hole_at_the_start", R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
                     "a hole"},
        BrokenHeader{"overlap",
                     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                     3, "an overlap"},
        BrokenHeader{"same_bytes_twice",
                     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                     2, "an overlap"},
        BrokenHeader{"data_too_short", R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3,
                     "truncated"},
        BrokenHeader{"data_too_long", R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5,
                     "holds 5 bytes of data"},
        BrokenHeader{"metadata_is_no_object", R"({"__metadata__":3})", 0, "__metadata__"},
        BrokenHeader{"metadata_is_no_string", R"({"__metadata__":{"a":1}})", 0, "not a string"}),
    [](const auto& parameter) { return std::string(parameter.param.situation); });

TEST(SafetensorsFile, shorter_than_the_prefix_is_refused) {
  fs::path path = file_of_this_test();
  std::ofstream(path) << "abc";
  EXPECT_EQ(error_of([&] { SafetensorsFile file(path); }).kind(), ErrorKind::kData);
}

TEST(SafetensorsFile, header_size_beyond_the_limit_is_refused_without_allocation) {
  fs::path path = write_raw("{}", 0, uint64_t{1} << 62);
  EXPECT_NE(std::string(error_of([&] { SafetensorsFile file(path); }).what()).find("100000000"),
            std::string::npos);
}

TEST(SafetensorsFile, header_size_beyond_the_file_is_refused) {
  fs::path path = write_raw("{}", 10, 13);
  Error error = error_of([&] { SafetensorsFile file(path); });
  EXPECT_NE(std::string(error.what()).find("claims 13 bytes, but the file has 20"), std::string::npos);
}

TEST(SafetensorsWriter, round_trip_keeps_names_shapes_bytes_and_metadata) {
  fs::path path = file_of_this_test();
  {
    SafetensorsWriter writer(path, {{"flag", "BOOL", {}}, {"w", "F32", {1, 2}}, {"none", "F16", {0}}},
                             {{"format", "pt"}});
    writer.append("w", bytes_of("abc"));
    writer.append("flag", bytes_of("\1"));
    writer.append("w", bytes_of("defgh"));
    writer.finish();
    EXPECT_EQ(writer.size_bytes(), fs::file_size(path));
  }

  SafetensorsFile file(path);

  ASSERT_EQ(file.entries().size(), 3u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  std::vector<std::byte> bytes = file.read(file.at("w"));
  EXPECT_EQ(std::memcmp(bytes.data(), "abcdefgh", 8), 0);
  EXPECT_EQ(file.read(file.at("flag")).at(0), std::byte{1});
  EXPECT_EQ(file.at("none").shape, (std::vector<int64_t>{0}));
}

TEST(SafetensorsWriter, wider_elements_come_first_and_the_data_begins_aligned) {
  fs::path path = file_of_this_test();
  SafetensorsWriter writer(path, {{"a", "U8", {3}}, {"b", "F64", {1}}, {"c", "F32", {1}}});
  writer.append("a", bytes_of("123"));
  writer.append("b", bytes_of("12345678"));
  writer.append("c", bytes_of("1234"));
  writer.finish();

  SafetensorsFile file(path);

  EXPECT_EQ(file.at("b").begin, 0u);
  EXPECT_EQ(file.at("c").begin, 8u);
  EXPECT_EQ(file.at("a").begin, 12u);
  EXPECT_EQ((fs::file_size(path) - 15) % 8, 0u);
}

TEST(SafetensorsWriter, unfinished_file_never_appears) {
  fs::path path = file_of_this_test();
  {
    SafetensorsWriter writer(path, {{"a", "U8", {3}}});
    writer.append("a", bytes_of("12"));
    EXPECT_EQ(error_of([&] { writer.finish(); }).kind(), ErrorKind::kInternal);
    EXPECT_EQ(error_of([&] { writer.append("a", bytes_of("34")); }).kind(), ErrorKind::kInternal);
    EXPECT_EQ(error_of([&] { writer.append("b", bytes_of("3")); }).kind(), ErrorKind::kInternal);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(SafetensorsWriter, impossible_declarations_are_refused) {
  fs::path path = file_of_this_test();
  auto declare = [&](std::vector<SafetensorsDeclaration> tensors) {
    return error_of([&] { SafetensorsWriter writer(path, tensors); }).kind();
  };
  EXPECT_EQ(declare({{"a", "F31", {1}}}), ErrorKind::kInternal);
  EXPECT_EQ(declare({{"a", "F32", {-1}}}), ErrorKind::kInternal);
  EXPECT_EQ(declare({{"a", "F32", {1}}, {"a", "F16", {1}}}), ErrorKind::kInternal);
  EXPECT_EQ(declare({{"__metadata__", "F32", {1}}}), ErrorKind::kInternal);
}

}  // namespace
}  // namespace tmd
