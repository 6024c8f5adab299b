#include "base/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <ostream>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "../support/error_of.h"
#include "base/error.h"
#include "base/host_memory.h"

namespace tmd {
namespace {
namespace fs = std::filesystem;
using test::error_of;
using test::expect_bad_data;

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

// Rules that readers are sometimes stricter about than the format is.
TEST(SafetensorsFile, unusual_but_legal_headers_are_read) {
  const auto tensors = [](const std::string& header, size_t data_bytes) {
    return SafetensorsFile(write_raw(header, data_bytes)).entries().size();
  };
  EXPECT_EQ(tensors("{ \n\t} \n", 0), 0u) << "blanks";
  EXPECT_EQ(tensors(R"({"__metadata__":{}})", 0), 0u) << "metadata alone";
  EXPECT_EQ(tensors(R"({"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", 1), 1u) << "no name";
  EXPECT_EQ(tensors(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":[{}]}})", 1), 1u);
  EXPECT_EQ(tensors(R"({"x":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}})", 3), 1u) << "half bytes";
  EXPECT_EQ(tensors(R"({"x":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3), 1u);
  EXPECT_EQ(tensors(R"({"x":{"dtype":"U8","shape":[0,4611686018427387904],"data_offsets":[0,0]}})", 0), 1u);
  EXPECT_EQ(tensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("m":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
                    R"("z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
                    R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                    2),
            4u)
      << "empty tensors between others and behind them";
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
  std::string header;
  size_t data_bytes;
  std::vector<std::string> message;  ///< parts of it
};

void PrintTo(const BrokenHeader& broken, std::ostream* stream) { *stream << broken.situation; }

/// The entry of tensor "w" alone.
std::string w(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}
/// Bytes `begin` to `end` as one tensor, to be put between braces.
std::string bytes(const std::string& name, int begin, int end) {
  return "\"" + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) +
         R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}
std::string repeated(const std::string& text, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) result += text;
  return result;
}

class SafetensorsBroken : public testing::TestWithParam<BrokenHeader> {};

TEST_P(SafetensorsBroken, file_is_refused_with_its_name_and_the_reason) {
  fs::path path = write_raw(GetParam().header, GetParam().data_bytes);

  Error error = error_of([&] { SafetensorsFile file(path); });

  expect_bad_data(error, GetParam().message);
  expect_bad_data(error, {path.string()});
  fs::remove(path);
}

const auto kSituation = [](const auto& parameter) { return std::string(parameter.param.situation); };
const std::string kTensor = "tensor \"w\"";

INSTANTIATE_TEST_SUITE_P(
    json, SafetensorsBroken,
    testing::Values(
        BrokenHeader{"empty_header", "", 0, {"does not begin with \"{\""}},
        BrokenHeader{"not_an_object", "[1]", 0, {"does not begin"}},
        BrokenHeader{"leading_blank", " {}", 0, {"does not begin"}},
        BrokenHeader{"byte_order_mark", "\xef\xbb\xbf{}", 0, {"does not begin"}},
        BrokenHeader{"cut_off", R"({"w":)", 0, {"not JSON at byte 5"}},
        BrokenHeader{"bytes_after_the_object", "{}x", 0, {"not JSON at byte 2"}},
        BrokenHeader{"second_object", "{}{}", 0, {"not JSON at byte 2"}},
        BrokenHeader{"zero_after_the_object", std::string("{}\0\0", 4), 0, {"byte 2: a zero byte"}},
        BrokenHeader{"object_behind_zero", std::string("{}\0{\"w\":{}}", 11), 0, {"byte 2: a zero byte"}},
        BrokenHeader{"comma_at_the_end", R"({"__metadata__":{},})", 0, {"not JSON at byte 19"}},
        BrokenHeader{"comment", "{/**/}", 0, {"not JSON at byte 1"}},
        BrokenHeader{"control_character", "{\"a\nb\":{}}", 0, {"not JSON at byte 3"}},
        BrokenHeader{"invalid_utf8", "{\"\xff\":{}}", 0, {"not JSON at byte 2", "UTF-8"}},
        BrokenHeader{"overlong_utf8", "{\"\xc0\xaf\":{}}", 0, {"not JSON at byte 2", "UTF-8"}},
        BrokenHeader{"surrogate_utf8", "{\"\xed\xa0\x80\":{}}", 0, {"not JSON at byte 3", "UTF-8"}},
        BrokenHeader{"lone_surrogate", R"({"\ud800":{}})", 0, {"not JSON", "surrogate"}},
        BrokenHeader{"not_a_number", w("\"U8\"", "[NaN]", "[0,1]"), 1, {"not JSON at byte"}},
        BrokenHeader{"number_too_large", w("\"U8\"", "[1e999]", "[0,1]"), 1, {"not JSON", "overflow"}},
        BrokenHeader{"leading_zero", w("\"U8\"", "[01]", "[0,1]"), 1, {"not JSON at byte"}},
        BrokenHeader{"long_token", "{\"" + repeated("a", 100'000), 0, {"not JSON at byte"}},
        BrokenHeader{
            "tensor_twice", "{" + bytes("w", 0, 1) + "," + bytes("w", 0, 1) + "}", 1, {"\"w\" stands twice"}},
        BrokenHeader{"tensor_twice_by_escape",
                     "{" + bytes("w", 0, 1) + "," + bytes("\\u0077", 0, 1) + "}",
                     1,
                     {"\"w\" stands twice"}},
        BrokenHeader{"field_twice",
                     R"({"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})",
                     1,
                     {"\"dtype\" stands twice"}},
        BrokenHeader{"metadata_twice",
                     R"({"__metadata__":{},"__metadata__":{}})",
                     0,
                     {"\"__metadata__\" stands twice"}},
        BrokenHeader{"metadata_name_twice",
                     R"({"__metadata__":{"format":"a","format":"b"}})",
                     0,
                     {"\"format\" stands twice"}},
        BrokenHeader{"name_twice_far_down", R"({"w":{"more":[{"a":1,"a":2}]}})", 0, {"\"a\" stands twice"}},
        BrokenHeader{"deep_arrays", R"({"w":)" + repeated("[", 10'000'000), 0, {"deeper than 64 levels"}},
        BrokenHeader{"deep_objects", repeated(R"({"w":)", 1'000'000), 0, {"deeper than 64 levels"}},
        BrokenHeader{"deep_and_closed",
                     w("\"U8\"", repeated("[", 500'000) + repeated("]", 500'000), "[0,1]"),
                     1,
                     {"deeper than 64 levels"}},
        BrokenHeader{"many_values",
                     w("\"U8\"", "[1" + repeated(",1", 5'000'000) + "]", "[0,1]"),
                     1,
                     {"more than 5000000 values"}},
        BrokenHeader{"metadata_is_no_object", R"({"__metadata__":3})", 0, {"__metadata__ is not an object"}},
        BrokenHeader{"metadata_is_null", R"({"__metadata__":null})", 0, {"__metadata__ is not an object"}},
        BrokenHeader{"metadata_is_a_number", R"({"__metadata__":{"a":1}})", 0, {"\"a\" is not a string"}},
        BrokenHeader{"metadata_is_nested", R"({"__metadata__":{"a":{}}})", 0, {"\"a\" is not a string"}}),
    kSituation);

INSTANTIATE_TEST_SUITE_P(
    entries, SafetensorsBroken,
    testing::Values(
        BrokenHeader{"entry_is_a_number", R"({"w":3})", 0, {kTensor, "not an object"}},
        BrokenHeader{"entry_is_a_list", R"({"w":["U8",[1],[0,1]]})", 1, {kTensor, "not an object"}},
        BrokenHeader{"entry_is_null", R"({"w":null})", 0, {kTensor, "not an object"}},
        BrokenHeader{"entry_is_empty", R"({"w":{}})", 0, {kTensor, "no string \"dtype\""}},
        BrokenHeader{"no_dtype", R"({"w":{"shape":[1],"data_offsets":[0,1]}})", 1, {kTensor, "\"dtype\""}},
        BrokenHeader{"dtype_is_a_number", w("8", "[1]", "[0,1]"), 1, {kTensor, "no string \"dtype\""}},
        BrokenHeader{"dtype_is_null", w("null", "[1]", "[0,1]"), 1, {kTensor, "no string \"dtype\""}},
        BrokenHeader{"unknown_dtype", w("\"F31\"", "[1]", "[0,4]"), 4, {kTensor, "unknown dtype \"F31\""}},
        BrokenHeader{"dtype_in_small_letters", w("\"f32\"", "[1]", "[0,4]"), 4, {kTensor, "\"f32\""}},
        BrokenHeader{"empty_dtype", w("\"\"", "[1]", "[0,4]"), 4, {kTensor, "unknown dtype \"\""}},
        BrokenHeader{"no_shape", R"({"w":{"dtype":"U8","data_offsets":[0,1]}})", 1, {kTensor, "\"shape\""}},
        BrokenHeader{"shape_is_a_number", w("\"U8\"", "1", "[0,1]"), 1, {kTensor, "no list \"shape\""}},
        BrokenHeader{"shape_is_null", w("\"U8\"", "null", "[0,1]"), 1, {kTensor, "no list \"shape\""}},
        BrokenHeader{"shape_of_text", w("\"U8\"", "[\"1\"]", "[0,1]"), 1, {kTensor, "holds \"1\""}},
        BrokenHeader{"shape_of_lists", w("\"U8\"", "[[1]]", "[0,1]"), 1, {kTensor, "holds [1]"}},
        BrokenHeader{"shape_of_bool", w("\"U8\"", "[true]", "[0,1]"), 1, {kTensor, "holds true"}},
        BrokenHeader{"negative_shape", w("\"U8\"", "[-1]", "[0,1]"), 1, {kTensor, "\"shape\" holds -1"}},
        BrokenHeader{"negative_zero", w("\"U8\"", "[-0]", "[0,0]"), 0, {kTensor, "\"shape\" holds"}},
        BrokenHeader{"fractional_shape", w("\"U8\"", "[1.0]", "[0,1]"), 1, {kTensor, "holds 1.0"}},
        BrokenHeader{"exponent_in_shape", w("\"U8\"", "[1e0]", "[0,1]"), 1, {kTensor, "holds 1.0"}},
        BrokenHeader{"extent_beyond_64_bits",
                     w("\"U8\"", "[18446744073709551617]", "[0,1]"),
                     1,
                     {kTensor, "\"shape\" holds 1.8"}},
        BrokenHeader{"extent_beyond_63_bits",
                     w("\"U8\"", "[18446744073709551615]", "[0,1]"),
                     1,
                     {kTensor, "overflows"}},
        BrokenHeader{"bytes_overflow_to_none",
                     w("\"F32\"", "[4611686018427387904,4]", "[0,0]"),
                     0,
                     {kTensor, "[4611686018427387904, 4] of F32 overflows"}},
        BrokenHeader{"bytes_overflow_to_few",
                     w("\"U8\"", "[4294967297,4294967297]", "[0,8589934593]"),
                     1,
                     {kTensor, "[4294967297, 4294967297] of U8 overflows"}},
        BrokenHeader{
            "bits_overflow_to_few", w("\"F64\"", "[288230376151711745]", "[0,8]"), 8, {kTensor, "overflows"}},
        BrokenHeader{"zero_behind_overflow",
                     w("\"U8\"", "[4611686018427387904,16,0]", "[0,0]"),
                     0,
                     {kTensor, "overflows"}},
        BrokenHeader{"half_a_byte", w("\"F4\"", "[3]", "[0,2]"), 2, {kTensor, "whole bytes"}},
        BrokenHeader{
            "three_quarters_of_a_byte", w("\"F6_E3M2\"", "[1]", "[0,1]"), 1, {kTensor, "whole bytes"}},
        BrokenHeader{"long_shape",
                     w("\"U8\"", "[2" + repeated(",1", 100'000) + "]", "[0,1]"),
                     1,
                     {kTensor, "[2, 1, 1, ", "..."}},
        BrokenHeader{
            "long_name", "{" + bytes(repeated("a", 100'000), 1, 2) + "}", 2, {"aaa...\"", "offset 1"}},
        BrokenHeader{"zero_in_the_name",
                     "{" + bytes("a\\u0000b", 1, 2) + "}",
                     2,
                     {"tensor \"a\\x00b\": begins at offset 1"}}),
    kSituation);

INSTANTIATE_TEST_SUITE_P(
    offsets, SafetensorsBroken,
    testing::Values(
        BrokenHeader{"no_offsets", R"({"w":{"dtype":"U8","shape":[1]}})", 1, {kTensor, "\"data_offsets\""}},
        BrokenHeader{
            "offsets_are_a_number", w("\"U8\"", "[1]", "1"), 1, {kTensor, "no list \"data_offsets\""}},
        BrokenHeader{"offsets_are_an_object",
                     w("\"U8\"", "[1]", R"({"0":0,"1":1})"),
                     1,
                     {kTensor, "no list \"data_offsets\""}},
        BrokenHeader{"no_offset", w("\"U8\"", "[1]", "[]"), 1, {kTensor, "data_offsets [] are not a range"}},
        BrokenHeader{"one_offset", w("\"U8\"", "[1]", "[0]"), 1, {kTensor, "[0] are not a range"}},
        BrokenHeader{"three_offsets", w("\"U8\"", "[1]", "[0,1,2]"), 1, {kTensor, "[0, 1, 2] are not"}},
        BrokenHeader{"reversed_offsets", w("\"U8\"", "[1]", "[1,0]"), 1, {kTensor, "[1, 0] are not a range"}},
        BrokenHeader{
            "negative_offset", w("\"U8\"", "[1]", "[-1,0]"), 1, {kTensor, "\"data_offsets\" holds -1"}},
        BrokenHeader{"fractional_offset", w("\"U8\"", "[1]", "[0,1.0]"), 1, {kTensor, "holds 1.0"}},
        BrokenHeader{"offset_of_text", w("\"U8\"", "[1]", "[0,\"1\"]"), 1, {kTensor, "holds \"1\""}},
        BrokenHeader{"offset_beyond_64_bits",
                     w("\"U8\"", "[1]", "[0,18446744073709551616]"),
                     1,
                     {kTensor, "\"data_offsets\" holds 1.8"}},
        BrokenHeader{"largest_offsets",
                     w("\"U8\"", "[1]", "[18446744073709551614,18446744073709551615]"),
                     1,
                     {kTensor, "begins at offset 18446744073709551614"}},
        BrokenHeader{"more_bytes_than_the_shape",
                     w("\"F32\"", "[2]", "[0,9]"),
                     9,
                     {kTensor, "data_offsets 0 to 9 hold 9 bytes, but shape [2] of F32 needs 8"}},
        BrokenHeader{"fewer_bytes_than_the_shape", w("\"F32\"", "[2]", "[0,4]"), 4, {kTensor, "needs 8"}},
        BrokenHeader{
            "scalar_without_bytes", w("\"F32\"", "[]", "[0,0]"), 0, {kTensor, "shape [] of F32 needs 4"}},
        BrokenHeader{"empty_tensor_with_bytes", w("\"U8\"", "[0]", "[0,1]"), 1, {kTensor, "needs 0"}},
        BrokenHeader{"hole",
                     "{" + bytes("a", 0, 1) + "," + bytes("w", 2, 3) + "}",
                     3,
                     {"tensor \"w\": begins at offset 2 of the data where 1 is due (a hole)"}},
        BrokenHeader{"hole_at_the_start",
                     "{" + bytes("w", 1, 2) + "}",
                     2,
                     {"tensor \"w\": begins at offset 1 of the data where 0 is due (a hole)"}},
        BrokenHeader{"empty_tensor_behind_the_end",
                     "{" + bytes("a", 0, 1) + "," + bytes("w", 2, 2) + "}",
                     1,
                     {"tensor \"w\": begins at offset 2 of the data where 1 is due (a hole)"}},
        BrokenHeader{"overlap",
                     "{" + bytes("a", 0, 2) + "," + bytes("w", 1, 3) + "}",
                     3,
                     {"tensor \"w\": begins at offset 1 of the data where 2 is due (an overlap)"}},
        BrokenHeader{"same_bytes_twice",
                     "{" + bytes("a", 0, 2) + "," + bytes("w", 0, 2) + "}",
                     2,
                     {"begins at offset 0 of the data where 2 is due (an overlap)"}},
        BrokenHeader{"one_inside_the_other",
                     "{" + bytes("a", 0, 4) + "," + bytes("w", 1, 2) + "}",
                     4,
                     {kTensor, "offset 1", "(an overlap)"}},
        BrokenHeader{"empty_tensor_inside_another",
                     "{" + bytes("a", 0, 2) + "," + bytes("w", 1, 1) + "}",
                     2,
                     {kTensor, "offset 1", "(an overlap)"}},
        BrokenHeader{"data_too_short",
                     "{" + bytes("w", 0, 4) + "}",
                     3,
                     {kTensor, "ends at offset 4 of the data, but the file holds 3", "truncated"}},
        BrokenHeader{"no_data",
                     "{" + bytes("a", 0, 2) + "," + bytes("w", 2, 4) + "}",
                     2,
                     {kTensor, "ends at offset 4", "holds 2 bytes"}},
        BrokenHeader{"huge_claim",
                     w("\"U8\"", "[1125899906842624]", "[0,1125899906842624]"),
                     1,
                     {kTensor, "ends at offset 1125899906842624", "truncated"}},
        BrokenHeader{"data_too_long",
                     "{" + bytes("w", 0, 4) + "}",
                     5,
                     {"end at offset 4 of the data, but the file holds 5 bytes of data"}},
        BrokenHeader{"data_without_tensors", "{}", 1, {"end at offset 0 of the data, but the file holds 1"}}),
    kSituation);

TEST(SafetensorsFile, shorter_than_the_prefix_is_refused) {
  fs::path path = file_of_this_test();
  for (const char* text : {"", "abc", "1234567"}) {
    std::ofstream(path) << text;
    expect_bad_data(error_of([&] { SafetensorsFile file(path); }),
                    {path.string(), "it has " + std::to_string(std::string(text).size()) + " bytes only"});
  }
}

TEST(SafetensorsFile, header_of_no_bytes_is_refused) {
  for (const size_t data_bytes : {0, 100}) {
    fs::path path = write_raw("", data_bytes, 0);
    expect_bad_data(error_of([&] { SafetensorsFile file(path); }), {path.string(), "does not begin"});
  }
}

TEST(SafetensorsFile, header_size_beyond_the_limit_is_refused_without_allocation) {
  const uint64_t before = peak_resident_memory();
  for (const uint64_t claim : {uint64_t{100'000'001}, uint64_t{1} << 62, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    fs::path path = write_raw("{}", 0, claim);
    expect_bad_data(error_of([&] { SafetensorsFile file(path); }),
                    {path.string(), "claims " + std::to_string(claim) + " bytes; 100000000 are allowed"});
  }
  EXPECT_LT(peak_resident_memory(), before + (uint64_t{64} << 20));
}

TEST(SafetensorsFile, header_size_beyond_the_file_is_refused_without_allocation) {
  const uint64_t before = peak_resident_memory();
  for (const uint64_t claim : {uint64_t{13}, uint64_t{100'000'000}}) {
    fs::path path = write_raw("{}", 10, claim);
    expect_bad_data(
        error_of([&] { SafetensorsFile file(path); }),
        {path.string(), "claims " + std::to_string(claim) + " bytes, but the file has 20: truncated"});
  }
  EXPECT_LT(peak_resident_memory(), before + (uint64_t{64} << 20));
}

// A file of another kind: its first bytes are the size of a header.
TEST(SafetensorsFile, files_of_other_kinds_are_refused) {
  fs::path path = file_of_this_test();
  for (const char* text : {"PK\x03\x04 a pickle of torch in a zip file", "\x89HDF\r\n\x1a\n and so on",
                           "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}) {
    std::ofstream(path) << text;
    expect_bad_data(error_of([&] { SafetensorsFile file(path); }), {path.string(), "100000000 are allowed"});
  }
}

// Every way to cut a file off is seen when it is opened, not when the data is read.
TEST(SafetensorsFile, any_shorter_file_is_refused) {
  const std::string header = "{" + bytes("a", 0, 4) + "," + bytes("b", 4, 6) + "}";
  fs::path path = write_raw(header, 6);
  SafetensorsFile whole(path);
  for (size_t size = 8 + header.size() + 6; size-- > 0;) {
    fs::resize_file(path, size);
    expect_bad_data(error_of([&] { SafetensorsFile file(path); }), {path.string()});
  }
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
