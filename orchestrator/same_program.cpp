#include "orchestrator/same_program.h"

#include <algorithm>
#include <fmt/format.h>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "comm/agree.h"
#include "orchestrator/run_folder.h"

namespace tmd::orchestrator {
namespace {

uint64_t hash_of_this_program() {
  constexpr uint64_t kBlock = 1 << 20;
  const File file = File::open_to_read("/proc/self/exe");
  const uint64_t size = file.size_bytes();
  std::vector<std::byte> block(kBlock);
  Xxh3 hash;
  for (uint64_t at = 0; at < size; at += kBlock) {
    const std::span<std::byte> bytes(block.data(), std::min(kBlock, size - at));
    file.read_at(at, bytes);
    hash.update(bytes);
  }
  return hash.digest();
}

}  // namespace

void check_same_program(comm::Communicator& world, const std::string& verb) {
  if (world.size() == 1) return;
  std::string program;
  comm::run_agreed(world, [&] {
    program = fmt::format("tmd {} {}, file hash {:016x}", verb, code_version(), hash_of_this_program());
  });
  comm::agree_equal(world, program, "the program");
}

}  // namespace tmd::orchestrator
