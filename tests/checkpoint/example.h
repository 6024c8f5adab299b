#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/folder.h"
#include "checkpoint/reader.h"
#include "checkpoint/store.h"
#include "checkpoint/writer.h"

namespace tmd::checkpoint {

/// The state of one rank as a run would hand it over: four parts in two groups, one of them of several
/// blocks, one empty on the last rank. Bytes are a function of rank, step and key.
struct Example {
  int rank;
  int ranks;
  std::vector<std::string> keys = {"student.master", "student.moment", "student.ema", "fake.master"};
  std::vector<std::vector<PlacedSlice>> slices;
  std::vector<std::vector<std::byte>> bytes;

  Example(int rank_, int ranks_, int64_t step) : rank(rank_), ranks(ranks_) {
    for (size_t i = 0; i < keys.size(); ++i) {
      // Rows of a tensor that the ranks share out; of the last one all but the last rank have one.
      const int64_t width = i == 0 ? 400'000 : 101, holders = i == 3 ? ranks - 1 : ranks;
      const int64_t rows = rank < holders ? width : 0;
      sharding::Slice slice{.name = keys[i] + ".w",
                            .full_shape = {holders, width},
                            .flat_begin = std::min<int64_t>(rank, holders) * width,
                            .flat_end = std::min<int64_t>(rank, holders) * width + rows};
      slices.push_back({{slice, 0}});
      bytes.emplace_back(static_cast<size_t>(rows + (rows > 0 ? 3 : 0)) * 4);  // three elements of padding
      for (size_t k = 0; k < bytes[i].size(); ++k) {
        bytes[i][k] =
            static_cast<std::byte>(k * 13 + k / 253 + i * 7 + static_cast<size_t>(rank * 31 + step));
      }
    }
  }

  std::vector<LocalPart> to_save() const {
    std::vector<LocalPart> parts;
    for (size_t i = 0; i < keys.size(); ++i) parts.push_back({keys[i], "F32", slices[i], bytes[i]});
    return parts;
  }

  std::vector<PartToLoad> to_load() {
    std::vector<PartToLoad> parts;
    for (size_t i = 0; i < keys.size(); ++i) parts.push_back({keys[i], "F32", slices[i], bytes[i]});
    return parts;
  }

  void clear() {
    for (auto& part : bytes) std::fill(part.begin(), part.end(), std::byte{0});
  }
};

inline sharding::MeshShape example_mesh(int ranks) {
  return {.replicate = 1, .shard = ranks, .sequence = 1, .tensor = 1};
}

inline Description example_description(int64_t step, int ranks) {
  return {.step = step,
          .mesh = example_mesh(ranks),
          .experiment_hash = 77,
          .code_version = "0.1.0",
          .state = {{"stage", "stage1"}, {"cursor", step * 8}}};
}

/// A folder of this test case that all ranks agree on, empty at first. Collective over: `comm`.
inline std::filesystem::path fresh_folder(comm::Communicator& comm) {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  std::filesystem::path folder = std::filesystem::path(testing::TempDir()) /
                                 (std::string("tmd_") + info->test_suite_name() + "_" + info->name() + "_" +
                                  std::to_string(comm.size() > 1 ? ::getppid() : ::getpid()));
  if (comm.rank() == 0) {
    remove_tree(folder);
    create_folders(folder);
  }
  comm.barrier();
  return folder;
}

/// Saves an example of `step` below `root`. Collective over: `comm`.
inline void save_example(comm::Communicator& comm, const std::filesystem::path& root, int64_t step) {
  Example example(comm.rank(), comm.size(), step);
  save(comm, root / step_folder_name(step), example_description(step, comm.size()), example.to_save());
}

/// True if the checkpoint of `step` loads and holds what `save_example` wrote. Collective over: `comm`.
inline bool loads_back(comm::Communicator& comm, const std::filesystem::path& root, int64_t step) {
  Example expected(comm.rank(), comm.size(), step);
  Example loaded = expected;
  loaded.clear();
  Description description =
      load(comm, comm, root / step_folder_name(step), [&](const Description&) { return loaded.to_load(); });
  return loaded.bytes == expected.bytes && description.step == step &&
         description.state["cursor"] == step * 8;
}

/// Changes one byte of a file, counted from its end.
inline void flip_bit(const std::filesystem::path& file, int64_t bytes_from_end) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-bytes_from_end, std::ios::end);
  char byte = static_cast<char>(stream.get());
  stream.seekp(-bytes_from_end, std::ios::end);
  stream.put(static_cast<char>(byte ^ 1));
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

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace tmd::checkpoint
