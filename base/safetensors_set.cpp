#include "base/safetensors_set.h"

#include <algorithm>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "base/printable.h"
#include "base/strict_json.h"

namespace tmd {
namespace {

constexpr uint64_t kLargestIndex = 100'000'000;

[[noreturn]] void refuse(const std::filesystem::path& index, const std::string& reason) {
  throw Error(ErrorKind::kData, fmt::format("{} is not a correct index: {}", index.string(), reason),
              "take the index and all files from one place");
}

// Of a file in the same folder. A zero byte would end the name for the operating system.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// Name of the first tensor that lies in `file`.
std::string first_in(const std::map<std::string, std::string>& map, const std::string& file) {
  return std::ranges::find(map, file, [](const auto& entry) { return entry.second; })->first;
}

// Tensor -> file, as the index says it.
std::map<std::string, std::string> weight_map(const nlohmann::json& json, const std::filesystem::path& path) {
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    refuse(path, "no object \"weight_map\"");
  std::map<std::string, std::string> map;
  for (const auto& [tensor, value] : json["weight_map"].items()) {
    if (!value.is_string())
      refuse(path, fmt::format("tensor \"{}\": its file is not a string", printable(tensor)));
    const auto& name = value.get_ref<const std::string&>();
    if (!is_plain_name(name)) {
      refuse(path, fmt::format("tensor \"{}\": \"{}\" is not the name of a file beside the index",
                               printable(tensor), printable(name)));
    }
    map[tensor] = name;
  }
  if (map.empty()) refuse(path, "its weight_map is empty");
  return map;
}

}  // namespace

SafetensorsSet::SafetensorsSet(const std::filesystem::path& path) : path_(path) {
  if (path.extension() == ".json") {
    read_index();
  } else {
    files_.emplace_back(path);
    for (const SafetensorsEntry& entry : files_.front().entries())
      tensors_[entry.name] = {&files_.front(), &entry};
  }
}

void SafetensorsSet::read_index() {
  const nlohmann::json json = read_strict_json(path_, kLargestIndex);
  const std::map<std::string, std::string> map = weight_map(json, path_);
  std::set<std::string> names;
  for (const auto& [tensor, file] : map) names.insert(file);
  files_.reserve(names.size());  // tensors_ points into it
  for (const std::string& name : names) {
    const std::filesystem::path file = path_.parent_path() / name;
    std::error_code failure;  // a name that is too long is one that is not there
    if (!std::filesystem::is_regular_file(file, failure)) {
      throw Error(
          ErrorKind::kData,
          fmt::format("{} names the file {} for tensor \"{}\", but it is not there", path_.string(),
                      (path_.parent_path() / printable(name)).string(), printable(first_in(map, name))),
          "download all parts of the model");
    }
    files_.emplace_back(file);
  }
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsEntry& entry : file.entries()) {
      const auto [at, is_new] = tensors_.insert({entry.name, {&file, &entry}});
      if (!is_new) {
        refuse(path_, fmt::format("tensor \"{}\" stands in {} and in {}", printable(entry.name),
                                  at->second.file->path().string(), file.path().string()));
      }
    }
  }
  check_against(map);
  const auto metadata = json.find("metadata");
  if (metadata == json.end() || !metadata->is_object() || !metadata->contains("total_size")) return;
  if (metadata->at("total_size") != data_bytes()) {
    log_warning("{} says {} bytes in total, its tensors have {}", path_.string(),
                printable(metadata->at("total_size").dump()), data_bytes());
  }
}

void SafetensorsSet::check_against(const std::map<std::string, std::string>& map) const {
  for (const auto& [name, file] : map) {
    const Tensor* tensor = find(name);
    if (!tensor || tensor->file->path().filename() != file)
      refuse(path_, fmt::format("tensor \"{}\" is not in {}", printable(name), printable(file)));
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!map.contains(name)) {
      refuse(path_, fmt::format("tensor \"{}\" of {} is not in it", printable(name),
                                tensor.file->path().filename().string()));
    }
  }
}

const SafetensorsSet::Tensor* SafetensorsSet::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

uint64_t SafetensorsSet::data_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_) bytes += tensor.entry->size_bytes();
  return bytes;
}

}  // namespace tmd
