#include "comm/self_check.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::comm {
namespace {

constexpr int64_t kSizes[] = {1, 3, 17, 1023};
constexpr at::ScalarType kTypes[] = {at::kByte, at::kInt, at::kLong, at::kFloat, at::kDouble};

// Value that rank r has at element i; small, so that sums are exact in every type.
at::Tensor pattern(int64_t elements, int rank, at::ScalarType type) {
  return (at::arange(elements, at::kLong).remainder(7) + rank).to(type);
}

class Checks {
 public:
  explicit Checks(Communicator& comm) : comm_(comm) {}

  void run() {
    for (at::ScalarType type : kTypes) {
      for (int64_t n : kSizes) {
        gathers(n, type);
        reductions(n, type);
        moves(n, type);
      }
    }
    gathers(100'003, at::kHalf);
    gathers(5, at::kBFloat16);
    reductions(400'001, at::kFloat);
    deterministic_sums();
    many_at_once();
    pending_receive_blocks_nobody();
    messages();
    groups();
  }

  std::vector<std::string> failures;

 private:
  void expect(bool ok, const std::string& what) {
    if (!ok) failures.push_back(fmt::format("{} in group {} of {}", what, comm_.name(), comm_.size()));
  }

  void gathers(int64_t n, at::ScalarType type) {
    const int ranks = comm_.size(), rank = comm_.rank();
    const at::Tensor output = at::zeros({n * ranks}, type), in_place = at::zeros({n * ranks}, type);
    comm_.all_gather(pattern(n, rank, type), output).wait();
    const at::Tensor own = in_place.narrow(0, rank * n, n);
    own.copy_(pattern(n, rank, type));
    comm_.all_gather(own, in_place).wait();
    for (int r = 0; r < ranks; ++r) {
      expect(output.narrow(0, r * n, n).equal(pattern(n, r, type)),
             fmt::format("all_gather of {} elements", n));
      expect(in_place.narrow(0, r * n, n).equal(pattern(n, r, type)),
             fmt::format("all_gather in place of {}", n));
    }
  }

  at::Tensor reduced(int64_t n, at::ScalarType type, ReduceOp op) const {
    at::Tensor result = pattern(n, 0, type);
    for (int r = 1; r < comm_.size(); ++r) {
      const at::Tensor other = pattern(n, r, type);
      result = op == ReduceOp::kSum   ? result + other
               : op == ReduceOp::kMin ? result.minimum(other)
                                      : result.maximum(other);
    }
    return result;
  }

  void reductions(int64_t n, at::ScalarType type) {
    const int ranks = comm_.size(), rank = comm_.rank();
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
      const at::Tensor all = pattern(n, rank, type);
      comm_.all_reduce(all, op).wait();
      expect(all.equal(reduced(n, type, op)), fmt::format("all_reduce of {} elements", n));
      const at::Tensor chunk = at::zeros({n}, type);
      comm_.reduce_scatter(pattern(n * ranks, rank, type), chunk, op).wait();
      expect(chunk.equal(reduced(n * ranks, type, op).narrow(0, rank * n, n)),
             fmt::format("reduce_scatter to {} elements", n));
    }
  }

  void moves(int64_t n, at::ScalarType type) {
    const int ranks = comm_.size(), rank = comm_.rank();
    for (int root = 0; root < ranks; ++root) {
      const at::Tensor tensor = pattern(n, rank, type);
      comm_.broadcast(tensor, root).wait();
      expect(tensor.equal(pattern(n, root, type)), fmt::format("broadcast of {} elements", n));
    }
    const at::Tensor output = at::zeros({n * ranks}, type);
    comm_.all_to_all(pattern(n * ranks, rank, type), output).wait();
    for (int r = 0; r < ranks; ++r) {
      expect(output.narrow(0, r * n, n).equal(pattern(n * ranks, r, type).narrow(0, rank * n, n)),
             fmt::format("all_to_all of chunks of {}", n));
    }
  }

  // Sums whose value depends on the order must come out with the same bits again, and on all ranks alike.
  void deterministic_sums() {
    const at::Tensor values =
        at::sin(at::arange(5000, at::kDouble) * (1.0 + comm_.rank())).to(at::kFloat) * 1e3;
    const at::Tensor first = values.clone(), second = values.clone();
    comm_.all_reduce(first, ReduceOp::kSum).wait();
    comm_.all_reduce(second, ReduceOp::kSum).wait();
    expect(first.equal(second), "all_reduce gives the same bits twice");
    const at::Tensor of_all = at::zeros({5000 * comm_.size()}, at::kFloat);
    comm_.all_gather(first, of_all).wait();
    for (int r = 0; r < comm_.size(); ++r) {
      expect(of_all.narrow(0, r * 5000, 5000).equal(first), "all_reduce gives the same bits on all ranks");
    }
  }

  void many_at_once() {
    std::vector<at::Tensor> outputs;
    std::vector<Work> works;
    for (int i = 0; i < 32; ++i) {
      outputs.push_back(at::zeros({64 * comm_.size()}, at::kInt));
      works.push_back(comm_.all_gather(pattern(64, comm_.rank() + i, at::kInt), outputs.back()));
      outputs.push_back(pattern(100, comm_.rank(), at::kInt));
      works.push_back(comm_.all_reduce(outputs.back(), ReduceOp::kSum));
    }
    for (size_t i = works.size(); i-- > 0;) works[i].wait();  // in another order than they were started
    for (int i = 0; i < 32; ++i) {
      for (int r = 0; r < comm_.size(); ++r) {
        expect(outputs[2 * i].narrow(0, r * 64, 64).equal(pattern(64, r + i, at::kInt)),
               "operations keep their order");
      }
      expect(outputs[2 * i + 1].equal(reduced(100, at::kInt, ReduceOp::kSum)),
             "operations keep their results");
    }
  }

  void pending_receive_blocks_nobody() {
    const int next = (comm_.rank() + 1) % comm_.size(),
              previous = (comm_.rank() + comm_.size() - 1) % comm_.size();
    if (comm_.size() == 1) return;
    const at::Tensor mail = at::zeros({4}, at::kInt);
    Work late = comm_.recv(mail, previous, 7);
    reductions(17, at::kFloat);
    comm_.barrier();
    comm_.send(pattern(4, comm_.rank(), at::kInt), next, 7).wait();
    late.wait();
    expect(mail.equal(pattern(4, previous, at::kInt)), "a receive that was posted early");
  }

  void messages() {
    const int next = (comm_.rank() + 1) % comm_.size(),
              previous = (comm_.rank() + comm_.size() - 1) % comm_.size();
    const at::Tensor a = at::zeros({1000}, at::kFloat), b = at::zeros({9}, at::kLong),
                     c = at::zeros({9}, at::kLong);
    std::vector<Work> works;
    works.push_back(comm_.send(pattern(9, comm_.rank(), at::kLong), next, 2));
    works.push_back(comm_.send(pattern(1000, comm_.rank(), at::kFloat), next, 1));
    works.push_back(comm_.send(pattern(9, comm_.rank() + 5, at::kLong), next, 2));
    works.push_back(comm_.recv(a, previous, 1));
    works.push_back(comm_.recv(b, previous, 2));
    works.push_back(comm_.recv(c, previous, 2));
    for (Work& work : works) work.wait();
    expect(a.equal(pattern(1000, previous, at::kFloat)), "messages are matched by tag");
    expect(b.equal(pattern(9, previous, at::kLong)) && c.equal(pattern(9, previous + 5, at::kLong)),
           "messages of one tag keep their order");
  }

  void groups() {
    const int rank = comm_.rank();
    auto parity = comm_.split(rank % 2, -rank, "parity");
    expect(parity->size() == (comm_.size() + (rank % 2 == 0 ? 1 : 0)) / 2, "size of a split group");
    const at::Tensor ranks = at::zeros({parity->size()}, at::kInt);
    parity->all_gather(at::full({1}, rank, at::kInt), ranks).wait();
    expect(ranks[parity->rank()].item<int>() == rank, "own rank in a split group");
    expect(ranks[0].item<int>() >= ranks[-1].item<int>(), "key orders a split group");
    parity->close();
  }

  Communicator& comm_;
};

}  // namespace

std::vector<std::string> self_check(Communicator& comm) {
  Checks checks(comm);
  checks.run();
  return checks.failures;
}

}  // namespace tmd::comm
