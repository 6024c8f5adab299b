#include "comm/agree.h"

#include <cstring>
#include <optional>

#include <ATen/ATen.h>

namespace tmd::comm {
namespace {

int64_t agree_on(Communicator& comm, int64_t value, ReduceOp op) {
  const at::Tensor tensor = at::full({1}, value, at::kLong);
  comm.all_reduce(tensor, op).wait();
  return tensor.const_data_ptr<int64_t>()[0];
}

at::Tensor bytes_of(const std::string& text, int64_t size) {
  at::Tensor bytes = at::zeros({size}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  return bytes;
}

std::string text_of(const at::Tensor& bytes, int64_t offset, int64_t length) {
  return std::string(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()) + offset,
                     static_cast<size_t>(length));
}

}  // namespace

int64_t agree_max(Communicator& comm, int64_t value) { return agree_on(comm, value, ReduceOp::kMax); }
int64_t agree_min(Communicator& comm, int64_t value) { return agree_on(comm, value, ReduceOp::kMin); }
bool agree_any(Communicator& comm, bool flag) { return agree_max(comm, flag ? 1 : 0) != 0; }
bool agree_all(Communicator& comm, bool flag) { return agree_min(comm, flag ? 1 : 0) != 0; }

void sum(Communicator& comm, std::span<double> values) {
  if (comm.size() == 1 || values.empty()) return;
  const at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kDouble);
  std::memcpy(tensor.data_ptr(), values.data(), values.size_bytes());
  comm.all_reduce(tensor, ReduceOp::kSum).wait();
  std::memcpy(values.data(), tensor.data_ptr(), values.size_bytes());
}

std::vector<std::string> gather_strings(Communicator& comm, const std::string& text) {
  const at::Tensor lengths = at::empty({comm.size()}, at::kLong);
  comm.all_gather(at::full({1}, static_cast<int64_t>(text.size()), at::kLong), lengths).wait();
  const int64_t longest = lengths.max().item<int64_t>();
  std::vector<std::string> texts(static_cast<size_t>(comm.size()));
  if (longest == 0) return texts;
  const at::Tensor all = at::empty({longest * comm.size()}, at::kByte);
  comm.all_gather(bytes_of(text, longest), all).wait();
  for (int r = 0; r < comm.size(); ++r) {
    texts[static_cast<size_t>(r)] = text_of(all, r * longest, lengths[r].item<int64_t>());
  }
  return texts;
}

std::string broadcast_string(Communicator& comm, const std::string& text, int root) {
  const at::Tensor length = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  comm.broadcast(length, root).wait();
  const int64_t size = length.item<int64_t>();
  if (size == 0) return {};
  const at::Tensor bytes = comm.rank() == root ? bytes_of(text, size) : at::zeros({size}, at::kByte);
  comm.broadcast(bytes, root).wait();
  return text_of(bytes, 0, size);
}

void agree_equal(Communicator& comm, const std::string& value, const std::string& what) {
  const std::vector<std::string> values = gather_strings(comm, value);
  std::string differing;
  for (size_t r = 1; r < values.size(); ++r) {
    if (values[r] != values[0]) differing += (differing.empty() ? "" : ", ") + std::to_string(r);
  }
  check(differing.empty(), ErrorKind::kConfig,
        what + " of rank " + differing + " differs from that of rank 0",
        "start the same program with the same files on all ranks");
}

void run_agreed(Communicator& comm, const std::function<void()>& action) {
  std::optional<Error> failure;
  try {
    action();
  } catch (const Error& e) {
    failure = e;
  } catch (const std::exception& e) {
    failure = Error(ErrorKind::kInternal, e.what());
  }
  if (comm.size() == 1) {
    if (failure) throw *failure;
    return;
  }
  const int64_t first = agree_min(comm, failure ? comm.rank() : comm.size());
  if (first == comm.size()) return;
  const int root = static_cast<int>(first);
  const bool mine = comm.rank() == root;
  const at::Tensor kind = at::full({1}, mine ? static_cast<int64_t>(failure->kind()) : 0, at::kLong);
  comm.broadcast(kind, root).wait();
  const std::string message = broadcast_string(comm, mine ? failure->what() : "", root);
  const std::string hint = broadcast_string(comm, mine ? failure->hint() : "", root);
  throw Error(static_cast<ErrorKind>(kind.item<int64_t>()), "rank " + std::to_string(root) + ": " + message,
              hint);
}

}  // namespace tmd::comm
