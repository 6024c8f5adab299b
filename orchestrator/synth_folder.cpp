#include "orchestrator/synth_folder.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "base/error.h"
#include "base/folder.h"
#include "data/data_set.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFront = "synth_";
constexpr const char* kBack = ".h5";

std::string file_name(int64_t index) { return fmt::format("{}{:05}{}", kFront, index, kBack); }

// Of a name that file_name gives.
std::optional<int64_t> index_of(const std::string& name) {
  int64_t index = -1;
  const char* digits = name.data() + std::min(name.size(), std::string_view(kFront).size());
  std::from_chars(digits, name.data() + name.size(), index);
  return index >= 0 && name == file_name(index) ? std::optional(index) : std::nullopt;
}

const char* const kOtherFolder = "give another --output folder, or say what it was made with";

[[noreturn]] void refuse_broken(const fs::path& path, const std::string& problem) {
  throw Error(ErrorKind::kData, fmt::format("{} is broken: {}", path.string(), problem),
              "remove this file: the same command makes it again");
}

// Runs what reads `path`. What is wrong with its content becomes the error of a broken file; a file that
// cannot be read may be intact.
template <class Read>
auto reading(const fs::path& path, const Read& read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kIo)
      throw Error(
          ErrorKind::kIo, fmt::format("{} cannot be read: {}", path.string(), error.what()),
          "is the file system well? If this file is damaged, remove it: the same command makes it again");
    if (error.kind() != ErrorKind::kData) throw;
    refuse_broken(path, error.what());
  }
}

std::string text_of(const SynthSettings& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

std::optional<std::string> first_difference(const SynthSettings& theirs, const SynthSettings& ours) {
  for (const auto& [key, value] : ours.items()) {
    const bool is_there = theirs.is_object() && theirs.contains(key);
    if (is_there && theirs.at(key) == value) continue;
    const SynthSettings other = is_there ? theirs.at(key) : SynthSettings();
    if (!value.is_object())
      return fmt::format("{}: {} there, {} here", key, is_there ? text_of(other) : "nothing", text_of(value));
    if (const auto inner = first_difference(other, value)) return fmt::format("{}.{}", key, *inner);
  }
  return std::nullopt;
}

fs::path SynthFolder::path(int64_t index) const { return folder_ / file_name(index); }

int64_t SynthFolder::samples(int64_t index) const { return std::min(part_, count_ - index * part_); }

std::vector<int64_t> SynthFolder::present() const {
  std::vector<int64_t> found;
  for (const fs::path& entry : list_folder(folder_)) {
    if (const auto index = index_of(entry.filename().string())) found.push_back(*index);
  }
  std::ranges::sort(found);
  return found;
}

void SynthFolder::check_made_with(int64_t index, const SynthSettings& settings) const {
  const data::LatentHeader header =
      reading(path(index), [&] { return data::LatentFile(path(index)).header(); });
  // No JSON or none at all: discarded, which has no keys.
  const SynthSettings theirs = SynthSettings::parse(header.generator, nullptr, false);
  const auto difference = first_difference(theirs, settings);
  check(!difference, ErrorKind::kConfig,
        fmt::format("{} was made with other settings: {}", path(index).string(), difference.value_or("")),
        kOtherFolder);
  check(index < parts(), ErrorKind::kConfig,
        fmt::format("{} lies beyond the {} parts of --count {}", path(index).string(), parts(), count_),
        kOtherFolder);
  check(header.noise == first(index), ErrorKind::kConfig,
        fmt::format("{} does not start with sample {} of seed {}", path(index).string(), first(index).number,
                    seed_),
        "was it renamed? The number in a name is that of the part");
  check(header.samples == samples(index), ErrorKind::kConfig,
        fmt::format("{} holds {} samples, with --count {} it would hold {}", path(index).string(),
                    header.samples, count_, samples(index)),
        "--count was another one; to make the set larger, remove this last part");
}

void SynthFolder::check_intact(int64_t index) const {
  reading(path(index), [&] {
    data::DataSet set({path(index)});
    check(set.header().has_checksum, ErrorKind::kData, "it has no checksums");
    for (int64_t i = 0; i < set.size(); ++i) {
      const data::ReadResult read = set.read(i);
      const auto* bad = std::get_if<data::BadSample>(&read);
      if (!bad) continue;
      data::StoredSample bytes;
      set.files().front().read_stored(i, bytes);  // throws where it is reading that fails
      throw Error(ErrorKind::kData, fmt::format("sample {}: {}", i, bad->problem));
    }
  });
}

void SynthFolder::remove_unfinished() const {
  for (const fs::path& entry : list_folder(folder_)) {
    const std::string name = entry.filename().string();
    const size_t end = name.find(".tmp-");  // as data::LatentWriter calls them
    if (end != std::string::npos && index_of(name.substr(0, end))) remove_tree(entry);
  }
}

}  // namespace tmd::orchestrator
