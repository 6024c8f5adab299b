#include "comm/agree.h"

#include <cmath>
#include <cstring>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "comm/arguments.h"

namespace tmd::comm {
namespace {

int64_t reduce(Communicator& comm, int64_t value, ReduceOp op) {
  const at::Tensor result = at::full({1}, value, at::kLong);
  comm.all_reduce(result, op).wait();
  return result.item<int64_t>();
}

/// `length` bytes that begin with `text`; the rest is zero.
at::Tensor to_bytes(const std::string& text, int64_t length) {
  const at::Tensor bytes = at::zeros({length}, at::kByte);
  if (!text.empty()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

at::Tensor to_bytes(const std::string& text) { return to_bytes(text, static_cast<int64_t>(text.size())); }

std::string to_string(const at::Tensor& bytes, int64_t length) {
  return std::string(static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(length));
}

/// By rank.
std::vector<int64_t> gather_lengths(Communicator& comm, const std::string& text) {
  const at::Tensor lengths = at::empty({comm.size()}, at::kLong);
  comm.all_gather(at::full({1}, static_cast<int64_t>(text.size()), at::kLong), lengths).wait();
  const auto* values = lengths.const_data_ptr<int64_t>();
  return std::vector<int64_t>(values, values + comm.size());
}

std::string shorten(const std::string& text) {
  constexpr size_t kLongest = 200;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

/// What of two texts to show: from shortly before their first difference on.
std::string around_difference(const std::string& text, const std::string& other) {
  size_t same = 0;
  while (same < text.size() && same < other.size() && text[same] == other[same]) ++same;
  constexpr size_t kContext = 40;
  return same <= kContext ? shorten(text) : "..." + shorten(text.substr(same - kContext));
}

}  // namespace

int64_t agree_max(Communicator& comm, int64_t value) { return reduce(comm, value, ReduceOp::kMax); }
int64_t agree_min(Communicator& comm, int64_t value) { return reduce(comm, value, ReduceOp::kMin); }

void agree_max(Communicator& comm, std::span<int64_t> values) {
  const at::Tensor largest = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), largest.mutable_data_ptr<int64_t>());
  comm.all_reduce(largest, ReduceOp::kMax).wait();
  std::copy_n(largest.const_data_ptr<int64_t>(), values.size(), values.begin());
}

double agree_slowest(Communicator& comm, double seconds) {
  return static_cast<double>(agree_max(comm, std::llround(seconds * 1e9))) * 1e-9;
}

bool agree_any(Communicator& comm, bool value) { return agree_max(comm, value) != 0; }
bool agree_all(Communicator& comm, bool value) { return agree_min(comm, value) != 0; }

void sum(Communicator& comm, std::span<double> values) {
  const at::Tensor sums = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), sums.mutable_data_ptr<double>());
  comm.all_reduce(sums, ReduceOp::kSum).wait();
  std::copy_n(sums.const_data_ptr<double>(), values.size(), values.begin());
}

void agree_equal(Communicator& comm, const std::string& value, const std::string& what) {
  const std::string first = broadcast_string(comm, value, 0);
  if (agree_all(comm, value == first)) return;
  const std::vector<std::string> shown =
      gather_strings(comm, value == first ? "" : around_difference(value, first));
  const at::Tensor differs = at::empty({comm.size()}, at::kByte);
  comm.all_gather(at::full({1}, value != first, at::kByte), differs).wait();
  std::vector<int> ranks;
  for (int rank = 0; rank < comm.size(); ++rank) {
    if (differs[rank].item<bool>()) ranks.push_back(rank);
  }
  const std::string& other = shown[static_cast<size_t>(ranks.front())];
  throw Error(ErrorKind::kConfig,
              fmt::format("{} differs between ranks: rank{} {} disagree{} with rank 0; rank {} has '{}'",
                          what, ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "),
                          ranks.size() == 1 ? "s" : "", ranks.front(), other),
              "start every rank with the same command line, files and environment");
}

void agree_ok(Communicator& comm, const std::optional<Error>& failure) {
  const int64_t lowest = agree_min(comm, failure ? comm.rank() : comm.size());
  if (lowest == comm.size()) return;
  if (comm.size() == 1) throw *failure;
  const int root = static_cast<int>(lowest);
  const at::Tensor kind = at::full({1}, failure ? failure->exit_code() : 0, at::kLong);
  comm.broadcast(kind, root).wait();
  const std::string message = broadcast_string(comm, failure ? failure->what() : "", root);
  const std::string hint = broadcast_string(comm, failure ? failure->hint() : "", root);
  throw Error(static_cast<ErrorKind>(kind.item<int64_t>()), message, hint)
      .with_context(fmt::format("rank {}", root));
}

void run_agreed(Communicator& comm, const std::function<void()>& action) {
  std::optional<Error> failure;
  try {
    action();
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kPeerLost) throw;
    failure = e;
  } catch (const std::exception& e) {
    failure = Error(ErrorKind::kInternal, e.what());
  }
  agree_ok(comm, failure);
}

std::string broadcast_string(Communicator& comm, const std::string& text, int root) {
  const at::Tensor length = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  comm.broadcast(length, root).wait();
  const auto bytes_count = length.item<int64_t>();
  const at::Tensor bytes = comm.rank() == root ? to_bytes(text) : at::empty({bytes_count}, at::kByte);
  comm.broadcast(bytes, root).wait();
  return to_string(bytes, bytes_count);
}

std::vector<std::string> gather_strings(Communicator& comm, const std::string& text) {
  const std::vector<int64_t> lengths = gather_lengths(comm, text);
  const int64_t longest = std::ranges::max(lengths);
  const at::Tensor bytes = at::empty({comm.size(), longest}, at::kByte);
  comm.all_gather(to_bytes(text, longest), bytes).wait();
  std::vector<std::string> texts;
  for (int rank = 0; rank < comm.size(); ++rank)
    texts.push_back(to_string(bytes[rank], lengths[static_cast<size_t>(rank)]));
  return texts;
}

std::vector<std::string> gather_strings_to(Communicator& comm, int root, const std::string& text) {
  constexpr int kTag = kTagCount - 1;
  const std::vector<int64_t> lengths = gather_lengths(comm, text);
  if (comm.rank() != root) {
    comm.send(to_bytes(text), root, kTag).wait();
    return {};
  }
  std::vector<at::Tensor> bytes;
  std::vector<Work> receipts;
  for (int rank = 0; rank < comm.size(); ++rank) {
    bytes.push_back(at::empty({lengths[static_cast<size_t>(rank)]}, at::kByte));
    if (rank != root) receipts.push_back(comm.recv(bytes.back(), rank, kTag));
  }
  for (Work& receipt : receipts) receipt.wait();
  std::vector<std::string> texts;
  for (const at::Tensor& received : bytes) texts.push_back(to_string(received, received.numel()));
  texts[static_cast<size_t>(root)] = text;
  return texts;
}

}  // namespace tmd::comm
