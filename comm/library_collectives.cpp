#include "comm/library_collectives.h"

#include <ATen/ATen.h>

namespace tmd::comm {
namespace {

const std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}
std::byte* mutable_bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

}  // namespace

Flow all_gather_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output) {
  const size_t bytes = input.nbytes();
  std::byte* gathered = mutable_bytes_of(output);
  const bool is_in_place =
      bytes_of(input) == gathered + static_cast<size_t>(operation.group().rank()) * bytes;
  MpiExchange exchange(operation);
  exchange.post([&](MpiRequests& requests, const MpiGroup& group, MpiListener& listener) {
    requests.all_gather(group, is_in_place ? nullptr : bytes_of(input), gathered, bytes, listener);
  });
  co_await exchange;
}

Flow reduce_scatter_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output, ReduceOp op) {
  MpiExchange exchange(operation);
  exchange.post([&](MpiRequests& requests, const MpiGroup& group, MpiListener& listener) {
    requests.reduce_scatter(group, bytes_of(input), mutable_bytes_of(output),
                            static_cast<size_t>(output.numel()), output.scalar_type(), op, listener);
  });
  co_await exchange;
}

Flow all_reduce_by_library(MpiOperation& operation, at::Tensor tensor, ReduceOp op) {
  MpiExchange exchange(operation);
  exchange.post([&](MpiRequests& requests, const MpiGroup& group, MpiListener& listener) {
    requests.all_reduce(group, mutable_bytes_of(tensor), static_cast<size_t>(tensor.numel()),
                        tensor.scalar_type(), op, listener);
  });
  co_await exchange;
}

Flow broadcast_by_library(MpiOperation& operation, at::Tensor tensor, int root) {
  MpiExchange exchange(operation);
  exchange.post([&](MpiRequests& requests, const MpiGroup& group, MpiListener& listener) {
    requests.broadcast(group, mutable_bytes_of(tensor), tensor.nbytes(), root, listener);
  });
  co_await exchange;
}

Flow all_to_all_by_library(MpiOperation& operation, at::Tensor input, at::Tensor output) {
  const size_t bytes = input.nbytes() / static_cast<size_t>(operation.group().size());
  MpiExchange exchange(operation);
  exchange.post([&](MpiRequests& requests, const MpiGroup& group, MpiListener& listener) {
    requests.all_to_all(group, bytes_of(input), mutable_bytes_of(output), bytes, listener);
  });
  co_await exchange;
}

}  // namespace tmd::comm
