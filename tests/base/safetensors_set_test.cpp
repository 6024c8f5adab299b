#include "base/safetensors_set.h"

#include <array>
#include <fstream>
#include <string>
#include <sys/stat.h>

#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "../support/error_of.h"
#include "base/log.h"

namespace tmd {
namespace {

namespace fs = std::filesystem;
using test::error_of;

constexpr const char* kIndex = "m.safetensors.index.json";
const std::string kGoodMap = R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"})";

/// A folder with 1.safetensors (tensors a, b) and 2.safetensors (c), of four bytes each.
class SafetensorsSetTest : public testing::Test {
 protected:
  SafetensorsSetTest() {
    configure_log(0, LogLevel::kWarning);
    write("1.safetensors", {"a", "b"});
    write("2.safetensors", {"c"});
  }

  void write(const std::string& file, const std::vector<std::string>& tensors) {
    std::vector<SafetensorsDeclaration> declarations;
    for (const std::string& name : tensors) declarations.push_back({name, "U8", {4}});
    SafetensorsWriter writer(folder_ / file, declarations, {{"file", file}});
    for (const std::string& name : tensors) {
      const std::string bytes = name + name + name + name;
      writer.append(name, std::as_bytes(std::span(bytes)).first(4));
    }
    writer.finish();
  }

  fs::path write_index(const std::string& json) {
    std::ofstream(folder_ / kIndex) << json;
    return folder_ / kIndex;
  }
  fs::path write_map(const std::string& map) { return write_index(R"({"weight_map":)" + map + "}"); }

  void expect_refused(const fs::path& index, std::vector<std::string> parts) {
    parts.push_back(index.string());
    test::expect_bad_data(error_of([&] { SafetensorsSet set(index); }), parts);
  }
  void expect_json_refused(const std::string& json, const std::vector<std::string>& parts) {
    SCOPED_TRACE(json.substr(0, 100));
    expect_refused(write_index(json), parts);
  }
  void expect_map_refused(const std::string& map, const std::vector<std::string>& parts) {
    SCOPED_TRACE(map.substr(0, 100));
    expect_refused(write_map(map), parts);
  }

  data::TemporaryFolder folder_;
};

TEST_F(SafetensorsSetTest, one_file_is_a_set) {
  const SafetensorsSet set(folder_ / "1.safetensors");

  EXPECT_EQ(set.files().size(), 1u);
  EXPECT_EQ(set.tensors().size(), 2u);
  EXPECT_EQ(set.data_bytes(), 8u);
  EXPECT_EQ(set.metadata().at("file"), "1.safetensors");
  EXPECT_EQ(set.find("c"), nullptr);
  ASSERT_NE(set.find("b"), nullptr);
  EXPECT_EQ(set.find("b")->entry->begin, 4u);
}

TEST_F(SafetensorsSetTest, all_files_of_an_index_are_one_collection) {
  const SafetensorsSet set(write_index(R"({"metadata":{"total_size":12},"weight_map":)" + kGoodMap + "}"));

  EXPECT_EQ(set.files().size(), 2u);
  EXPECT_EQ(set.tensors().size(), 3u);
  EXPECT_EQ(set.data_bytes(), 12u);
  EXPECT_EQ(set.metadata().at("file"), "1.safetensors");
  ASSERT_NE(set.find("c"), nullptr);
  EXPECT_EQ(set.find("c")->file->path().filename(), "2.safetensors");
  std::array<std::byte, 2> bytes{};
  set.find("c")->read(2, bytes);
  EXPECT_EQ(bytes[1], std::byte{'c'});
}

TEST_F(SafetensorsSetTest, moved_set_still_reads) {
  SafetensorsSet first(write_map(kGoodMap));
  const SafetensorsSet set = std::move(first);
  std::array<std::byte, 4> bytes{};
  set.find("b")->read(0, bytes);
  EXPECT_EQ(bytes[0], std::byte{'b'});
}

TEST_F(SafetensorsSetTest, wrong_or_odd_total_size_is_a_warning_only) {
  for (const char* metadata : {"null", "3", "{}", R"({"total_size":11})", R"({"total_size":"12"})",
                               R"({"total_size":[{}]})", R"({"total_size":-1})", R"({"total_size":1e300})"}) {
    testing::internal::CaptureStderr();
    const SafetensorsSet set(
        write_index(R"({"metadata":)" + std::string(metadata) + R"(,"weight_map":)" + kGoodMap + "}"));
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(set.tensors().size(), 3u);
    const bool is_said = std::string(metadata).find("total_size") != std::string::npos;
    EXPECT_EQ(log.find("bytes in total, its tensors have 12") != std::string::npos, is_said)
        << metadata << log;
  }
}

TEST_F(SafetensorsSetTest, right_total_size_gives_no_warning) {
  testing::internal::CaptureStderr();
  const SafetensorsSet set(write_index(R"({"metadata":{"total_size":12},"weight_map":)" + kGoodMap + "}"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(SafetensorsSetTest, index_that_is_no_json_is_refused_with_the_offset) {
  expect_json_refused("", {"not JSON at byte 0"});
  expect_json_refused(R"({"weight_map":)", {"not JSON at byte 14"});
  expect_json_refused(R"({"weight_map":{"a":"1.safetensors"}}x)", {"not JSON at byte 36"});
  expect_json_refused(std::string("{\"weight_map\":{}}\0", 18), {"byte 17: a zero byte"});
  expect_json_refused("{\"\xff\":1}", {"UTF-8"});
  expect_json_refused(std::string(10'000'000, '['), {"deeper than 64 levels"});
}

TEST_F(SafetensorsSetTest, names_that_stand_twice_are_refused) {
  expect_json_refused(R"({"weight_map":{},"weight_map":{}})", {"\"weight_map\" stands twice"});
  expect_json_refused(R"({"metadata":{"total_size":1,"total_size":1},"weight_map":{}})",
                      {"\"total_size\" stands twice"});
  expect_map_refused(R"({"a":"1.safetensors","a":"2.safetensors"})", {"\"a\" stands twice"});
}

TEST_F(SafetensorsSetTest, index_without_a_weight_map_is_refused) {
  for (const char* json : {"[]", "3", "null", "{}", R"({"weight_map":[]})", R"({"weight_map":null})",
                           R"({"weight_map":"1.safetensors"})", R"({"a":"1.safetensors"})"})
    expect_json_refused(json, {"no object \"weight_map\""});
  expect_map_refused("{}", {"its weight_map is empty"});
}

TEST_F(SafetensorsSetTest, file_that_is_not_a_string_is_refused_with_the_tensor) {
  for (const char* value : {"1", "null", "[\"1.safetensors\"]", "{}", "true"})
    expect_map_refused(R"({"a":)" + std::string(value) + "}", {"tensor \"a\"", "not a string"});
}

TEST_F(SafetensorsSetTest, file_names_that_leave_the_folder_are_refused) {
  for (const char* name : {"", ".", "..", "../1.safetensors", "/etc/passwd", "sub/1.safetensors",
                           "./1.safetensors", "1.safetensors/", "/", "1.safetensors\\u0000"}) {
    expect_map_refused(R"({"a":")" + std::string(name) + R"("})",
                       {"tensor \"a\"", "is not the name of a file beside the index"});
  }
}

TEST_F(SafetensorsSetTest, missing_file_is_named_with_its_tensor) {
  expect_map_refused(R"({"a":"1.safetensors","b":"1.safetensors","c":"3.safetensors"})",
                     {(folder_ / "3.safetensors").string(), "tensor \"c\"", "not there"});
  expect_map_refused(R"({"a":")" + std::string(5000, 'n') + R"("})", {"tensor \"a\"", "nnn...", "not there"});
}

// Opening a pipe would wait for ever.
TEST_F(SafetensorsSetTest, folders_pipes_and_dead_links_are_no_files) {
  fs::create_directory(folder_ / "folder");
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  fs::create_symlink("nowhere", folder_ / "dead");
  fs::create_symlink("loop", folder_ / "loop");
  for (const char* name : {"folder", "pipe", "dead", "loop"})
    expect_map_refused(R"({"a":")" + std::string(name) + R"("})", {"tensor \"a\"", name, "not there"});
}

TEST_F(SafetensorsSetTest, broken_part_is_named) {
  fs::resize_file(folder_ / "2.safetensors", fs::file_size(folder_ / "2.safetensors") - 1);
  test::expect_bad_data(error_of([&] { SafetensorsSet set(write_map(kGoodMap)); }),
                        {(folder_ / "2.safetensors").string(), "tensor \"c\"", "offset 4", "truncated"});
  expect_map_refused(R"({"a":")" + std::string(kIndex) + R"("})", {"100000000 are allowed"});
}

TEST_F(SafetensorsSetTest, tensor_that_its_file_lacks_is_refused) {
  expect_map_refused(R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","d":"2.safetensors"})",
                     {"tensor \"d\" is not in 2.safetensors"});
  expect_map_refused(R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})",
                     {"tensor \"b\" is not in 2.safetensors"});
}

TEST_F(SafetensorsSetTest, tensor_that_the_index_lacks_is_refused) {
  expect_map_refused(R"({"a":"1.safetensors","c":"2.safetensors"})",
                     {"tensor \"b\" of 1.safetensors is not in it"});
}

TEST_F(SafetensorsSetTest, tensor_in_two_files_is_refused) {
  write("2.safetensors", {"c", "b"});
  expect_map_refused(kGoodMap, {"tensor \"b\" stands in", "1.safetensors and in", "2.safetensors"});
}

TEST_F(SafetensorsSetTest, index_beyond_the_limit_is_refused_unread) {
  const fs::path index = write_map(kGoodMap);
  fs::resize_file(index, 100'000'001);
  expect_refused(index, {"it has 100000001 bytes; 100000000 are allowed"});
}

TEST_F(SafetensorsSetTest, missing_index_or_file_is_an_io_error) {
  EXPECT_EQ(error_of([&] { SafetensorsSet set(folder_ / "none.json"); }).kind(), ErrorKind::kIo);
  EXPECT_EQ(error_of([&] { SafetensorsSet set(folder_ / "none.safetensors"); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd
