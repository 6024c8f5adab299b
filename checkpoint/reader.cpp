#include "checkpoint/reader.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "checkpoint/part_file.h"
#include "checkpoint/wanted_slices.h"
#include "checkpoint/writer.h"
#include "comm/agree.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

constexpr int kBlockTag = 21;
constexpr size_t kBlocksInFlight = 8;  // at least; each is a buffer

// Bits of every rank of a group, one behind the other.
class AllBits {
 public:
  AllBits(comm::Communicator& group, BitSet own) : each_(own.bytes().size()) {
    const auto n = static_cast<int64_t>(each_);
    const at::Tensor input = at::from_blob(own.bytes().data(), {n}, at::kByte);
    all_.resize(each_ * static_cast<size_t>(group.size()));
    const at::Tensor output = at::from_blob(all_.data(), {n * group.size()}, at::kByte);
    if (n > 0) group.all_gather(input, output).wait();
  }
  bool test(int rank, size_t i) const {
    return BitSet::test(std::span(all_).subspan(static_cast<size_t>(rank) * each_, each_), i);
  }

 private:
  size_t each_;
  std::vector<uint8_t> all_;
};

void check_nothing_is_left(const Manifest& manifest, const AllBits& wanted, int ranks,
                           const fs::path& folder) {
  size_t i = 0;
  for (const Part& part : manifest.parts) {
    for (const PlacedSlice& placed : part.slices) {
      bool is_wanted = placed.slice.elements() == 0;
      for (int rank = 0; rank < ranks && !is_wanted; ++rank) is_wanted = wanted.test(rank, i);
      check(is_wanted, ErrorKind::kData,
            fmt::format("{} holds {} of {}, which this run has no place for", folder.string(), part.key,
                        placed.slice.name),
            "does the configuration describe the model and the method that the checkpoint was made of?");
      ++i;
    }
  }
}

// A block that several ranks want.
struct SharedBlock {
  BlockId id;
  int reader = 0;
  std::vector<int> others;
};

/// Who reads what, the same on all ranks of the group but for `own`.
struct Reading {
  std::vector<BlockId> own;  ///< that nobody else wants
  std::vector<SharedBlock> shared;
};

Reading deal(const Manifest& manifest, const AllBits& wanted, comm::Communicator& readers) {
  Reading reading;
  std::vector<size_t> load(static_cast<size_t>(readers.size()));
  const std::vector<BlockId> blocks = all_blocks(manifest);
  std::vector<int> targets;
  for (size_t i = 0; i < blocks.size(); ++i) {
    targets.clear();
    for (int rank = 0; rank < readers.size(); ++rank) {
      if (wanted.test(rank, i)) targets.push_back(rank);
    }
    if (targets.empty()) continue;  // padding
    const auto idle =
        std::ranges::min_element(targets, {}, [&](int rank) { return load[static_cast<size_t>(rank)]; });
    const int reader = *idle;
    ++load[static_cast<size_t>(reader)];
    if (targets.size() > 1) {
      targets.erase(idle);
      reading.shared.push_back({blocks[i], reader, targets});
    } else if (reader == readers.rank()) {
      reading.own.push_back(blocks[i]);
    }
  }
  return reading;
}

// Reads blocks of a checkpoint; keeps the file of the last one open.
class BlockReader {
 public:
  BlockReader(const Manifest& manifest, const fs::path& folder) : manifest_(manifest), folder_(folder) {}

  void read(BlockId id, std::span<std::byte> to) {
    const Part& part = manifest_.parts[id.part];
    if (open_part_ != id.part || !file_) {
      file_.reset();
      file_.emplace(open_part_file(folder_, part));
      open_part_ = id.part;
    }
    read_block(*file_, part, id.block, to);
  }

 private:
  const Manifest& manifest_;
  const fs::path& folder_;
  size_t open_part_ = 0;
  std::optional<SafetensorsFile> file_;
};

void read_own(const std::vector<BlockId>& blocks, const Manifest& manifest, const WantedSlices& wanted,
              BlockReader& reader) {
  std::vector<std::byte> buffer;
  for (const BlockId id : blocks) {
    std::span<std::byte> to = wanted.place_of(id);
    if (!to.empty()) {
      reader.read(id, to);
      continue;
    }
    buffer.resize(block_size(manifest.parts[id.part], id.block));
    reader.read(id, buffer);
    wanted.scatter(id, buffer);
  }
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

// A rank that cannot read takes part all the same: the others wait for its messages. Throws its failure after
// the last one.
void exchange_shared(const std::vector<SharedBlock>& blocks, const Manifest& manifest,
                     const WantedSlices& wanted, BlockReader& reader, comm::Communicator& readers) {
  std::exception_ptr failure;
  const size_t round = std::max<size_t>(kBlocksInFlight, static_cast<size_t>(readers.size()));
  for (size_t first = 0; first < blocks.size(); first += round) {
    const std::span<const SharedBlock> now =
        std::span(blocks).subspan(first, std::min(round, blocks.size() - first));
    std::vector<at::Tensor> buffers(now.size());
    std::vector<comm::Work> works;
    const auto is_own = [&](const SharedBlock& b) { return b.reader == readers.rank(); };
    for (size_t i = 0; i < now.size(); ++i) {
      const SharedBlock& block = now[i];
      const bool is_wanted = std::ranges::find(block.others, readers.rank()) != block.others.end();
      if (!is_own(block) && !is_wanted) continue;
      const uint64_t size = block_size(manifest.parts[block.id.part], block.id.block);
      buffers[i] = at::empty({static_cast<int64_t>(size)}, at::kByte);
      if (is_wanted) works.push_back(readers.recv(buffers[i], block.reader, kBlockTag));
    }
    for (size_t i = 0; i < now.size(); ++i) {
      if (!is_own(now[i])) continue;
      try {
        if (!failure) reader.read(now[i].id, bytes_of(buffers[i]));
      } catch (...) {
        failure = std::current_exception();
      }
      for (int other : now[i].others) works.push_back(readers.send(buffers[i], other, kBlockTag));
    }
    for (comm::Work& work : works) work.wait();
    for (size_t i = 0; i < now.size() && !failure; ++i) {
      if (buffers[i].defined()) wanted.scatter(now[i].id, bytes_of(buffers[i]));
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Description load(comm::Communicator& comm, comm::Communicator& readers, const fs::path& folder,
                 const MakeParts& make_parts) {
  Manifest manifest;
  std::vector<PartToLoad> parts;
  std::optional<WantedSlices> wanted;
  comm::run_agreed(comm, [&] {
    manifest = read_manifest(folder);
    check(
        folder.filename() == step_folder_name(manifest.description.step), ErrorKind::kIo,
        fmt::format("{} is damaged: its manifest is of step {}", folder.string(), manifest.description.step));
    parts = make_parts(manifest.description);
    wanted.emplace(manifest, parts, folder);
  });
  Reading reading;
  const AllBits slices(readers, wanted->slices()), blocks(readers, wanted->blocks());
  comm::run_agreed(comm, [&] {
    check_nothing_is_left(manifest, slices, readers.size(), folder);
    reading = deal(manifest, blocks, readers);
  });
  BlockReader reader(manifest, folder);
  comm::run_agreed(comm, [&] { read_own(reading.own, manifest, *wanted, reader); });
  // Inside, communication comes before what throws.
  comm::run_agreed(comm, [&] { exchange_shared(reading.shared, manifest, *wanted, reader, readers); });
  return manifest.description;
}

}  // namespace tmd::checkpoint
