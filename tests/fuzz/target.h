#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <unistd.h>

#include "base/error.h"

// A target is a file that defines LLVMFuzzerTestOneInput: libFuzzer calls it with inputs that it makes up
// (scripts/fuzz), tests/fuzz/run_corpus.cpp with the files of tests/fuzz/corpus. A finding ends the program.

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tmd::fuzz {

inline void require(bool ok, const char* promise) {
  if (ok) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

/// Runs `action`; an error must be bad input data, short, and name `file`. Returns whether there was none.
/// Anything else that is thrown ends the program.
template <class Action>
bool accepted(const std::string& file, Action action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (error.kind() != ErrorKind::kData) std::fprintf(stderr, "%s\n", error.what());
    require(error.kind() == ErrorKind::kData, "bad input is an error of the data");
    require(text.find(file) != std::string_view::npos, "the message names the file");
    require(text.size() < 4000, "the message is short");
    require(!error.hint().empty(), "there is a hint");
    return false;
  }
}

/// A folder in memory where the system has one; stays as long as the program, then removed.
class Folder {
 public:
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    std::string pattern =
        ((std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path()) /
         "tmd-fuzz-XXXXXX")
            .string();
    require(mkdtemp(pattern.data()) != nullptr, "there is room for a temporary folder");
    path_ = pattern;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code failure;
    std::filesystem::remove_all(path_, failure);
  }
  const std::filesystem::path& path() const { return path_; }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace tmd::fuzz
