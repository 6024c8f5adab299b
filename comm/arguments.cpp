#include "comm/arguments.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::comm {
namespace {

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "an undefined tensor";
  return fmt::format("{}[{}] on {}{}", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ","),
                     tensor.device().str(), tensor.is_contiguous() ? "" : ", not contiguous");
}

[[noreturn]] void refuse(const Communicator& comm, std::string_view call, std::string_view promise) {
  throw Error(ErrorKind::kInternal,
              fmt::format("{} on communicator '{}' ({} ranks): {}", call, comm.name(), comm.size(), promise));
}

bool is_transferable(at::ScalarType type) {
  switch (type) {
    case at::kByte:
    case at::kInt:
    case at::kLong:
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kHalf:
      return true;
    default:
      return false;
  }
}

void check_tensor(const Communicator& comm, const char* call, const at::Tensor& tensor, at::Device device) {
  const bool fits = tensor.defined() && tensor.device() == device && tensor.is_contiguous() &&
                    is_transferable(tensor.scalar_type());
  if (!fits) refuse(comm, call, fmt::format("cannot take {}", describe(tensor)));
}

void check_pair(const Communicator& comm, const char* call, const at::Tensor& input, const at::Tensor& output,
                at::Device device) {
  check_tensor(comm, call, input, device);
  check_tensor(comm, call, output, device);
  if (input.scalar_type() != output.scalar_type())
    refuse(comm, call,
           fmt::format("input {} and output {} differ in type", describe(input), describe(output)));
}

const char* begin_of(const at::Tensor& tensor) { return static_cast<const char*>(tensor.const_data_ptr()); }

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  return begin_of(a) < begin_of(b) + b.nbytes() && begin_of(b) < begin_of(a) + a.nbytes();
}

void check_apart(const Communicator& comm, const char* call, const at::Tensor& input,
                 const at::Tensor& output) {
  if (overlap(input, output)) refuse(comm, call, "input and output overlap");
}

}  // namespace

void check_all_gather(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                      at::Device device) {
  check_pair(comm, "all_gather", input, output, device);
  if (output.numel() != input.numel() * comm.size())
    refuse(comm, "all_gather",
           fmt::format("output {} is not {} times input {}", describe(output), comm.size(), describe(input)));
  const bool in_place =
      begin_of(input) == begin_of(output) + static_cast<size_t>(comm.rank()) * input.nbytes();
  if (!in_place) check_apart(comm, "all_gather", input, output);
}

void check_reduce_scatter(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                          at::Device device) {
  check_pair(comm, "reduce_scatter", input, output, device);
  if (input.numel() != output.numel() * comm.size())
    refuse(comm, "reduce_scatter",
           fmt::format("input {} is not {} times output {}", describe(input), comm.size(), describe(output)));
  check_apart(comm, "reduce_scatter", input, output);
}

void check_all_reduce(const Communicator& comm, const at::Tensor& tensor, at::Device device) {
  check_tensor(comm, "all_reduce", tensor, device);
}

void check_broadcast(const Communicator& comm, const at::Tensor& tensor, int root, at::Device device) {
  check_tensor(comm, "broadcast", tensor, device);
  if (root < 0 || root >= comm.size()) refuse(comm, "broadcast", fmt::format("no rank {} as root", root));
}

void check_all_to_all(const Communicator& comm, const at::Tensor& input, const at::Tensor& output,
                      at::Device device) {
  check_pair(comm, "all_to_all", input, output, device);
  if (input.numel() != output.numel() || input.numel() % comm.size() != 0)
    refuse(comm, "all_to_all",
           fmt::format("input {} and output {} are not one chunk for each rank", describe(input),
                       describe(output)));
  check_apart(comm, "all_to_all", input, output);
}

void check_message(const Communicator& comm, const char* what, const at::Tensor& tensor, int peer, int tag,
                   at::Device device) {
  check_tensor(comm, what, tensor, device);
  if (peer < 0 || peer >= comm.size()) refuse(comm, what, fmt::format("no rank {} as peer", peer));
  if (tag < 0 || tag >= kTagCount)
    refuse(comm, what, fmt::format("tag {} is outside 0 .. {}", tag, kTagCount - 1));
}

}  // namespace tmd::comm
