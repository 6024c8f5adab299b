#include "comm/self_check.h"

#include <array>
#include <span>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::comm {
namespace {

constexpr std::array kReducedTypes{at::kFloat, at::kDouble, at::kInt, at::kLong, at::kByte};
constexpr std::array kMovedTypes{at::kFloat, at::kDouble,   at::kInt, at::kLong,
                                 at::kByte,  at::kBFloat16, at::kHalf};
constexpr std::array<int64_t, 4> kSizes{0, 1, 7, 1000};
// More than one chunk of the host backend, with a remainder.
constexpr int64_t kLargeSize = 300'007;

/// [elements], whole numbers 0 .. 15 that depend on all arguments, so that every type holds them and their
/// sums over few ranks exactly.
at::Tensor values(int rank, int salt, int64_t elements, at::ScalarType type) {
  return ((at::arange(elements, at::kLong) * 7 + rank * 11 + salt * 13) % 16).to(type);
}

at::Tensor reduce(ReduceOp op, const at::Tensor& a, const at::Tensor& b) {
  switch (op) {
    case ReduceOp::kSum:
      return a + b;
    case ReduceOp::kMin:
      return at::minimum(a, b);
    case ReduceOp::kMax:
      return at::maximum(a, b);
  }
  return a;
}

const char* name(ReduceOp op) {
  return op == ReduceOp::kSum ? "sum" : op == ReduceOp::kMin ? "minimum" : "maximum";
}

class SelfCheck {
 public:
  SelfCheck(Communicator& comm, SelfCheckMemory& memory)
      : comm_(comm), memory_(memory), rank_(comm.rank()), size_(comm.size()) {}

  std::vector<std::string> run() {
    for (int64_t elements : kSizes) {
      for (at::ScalarType type : kMovedTypes) check_moves(elements, type);
      for (at::ScalarType type : kReducedTypes) {
        for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
          if (type != at::kByte || op != ReduceOp::kSum) check_reductions(elements, type, op);
        }
      }
      check_messages(elements);
    }
    check_moves(kLargeSize, at::kHalf);
    for (at::ScalarType type : {at::kFloat, at::kLong}) check_reductions(kLargeSize, type, ReduceOp::kSum);
    check_messages(kLargeSize);
    for (int64_t elements : {int64_t{1000}, kLargeSize}) check_bits(elements);
    check_many_under_way();
    check_early_receive();
    check_groups();
    comm_.barrier();
    return failures_;
  }

 private:
  void expect(bool is_right, const std::string& what) {
    if (!is_right)
      failures_.push_back(
          fmt::format("{} (rank {} of {}, communicator '{}')", what, rank_, size_, comm_.name()));
  }
  void expect_equal(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
    expect(get(actual).equal(expected), what);
  }
  at::Tensor put(const at::Tensor& tensor) { return memory_.put(tensor); }
  at::Tensor get(const at::Tensor& tensor) { return memory_.get(tensor); }
  at::Tensor put_zeros(at::IntArrayRef shape, at::ScalarType type) { return put(at::zeros(shape, type)); }
  std::string describe(const char* operation, int64_t elements, at::ScalarType type) const {
    return fmt::format("{} of {} elements of type {}", operation, elements, c10::toString(type));
  }

  void check_moves(int64_t elements, at::ScalarType type) {
    check_all_gather(elements, type);
    check_broadcast(elements, type);
    check_all_to_all(elements, type);
  }

  void check_all_gather(int64_t elements, at::ScalarType type) {
    std::vector<at::Tensor> parts;
    for (int rank = 0; rank < size_; ++rank) parts.push_back(values(rank, 1, elements, type));
    const at::Tensor expected = at::cat(parts);
    const at::Tensor& part = parts[static_cast<size_t>(rank_)];
    const at::Tensor output = put(at::zeros_like(expected));
    comm_.all_gather(put(part), output).wait();
    expect_equal(output, expected, describe("all_gather", elements, type));

    const at::Tensor only_own = at::zeros_like(expected);
    only_own.narrow(0, rank_ * elements, elements).copy_(part);
    const at::Tensor in_place = put(only_own);
    comm_.all_gather(in_place.narrow(0, rank_ * elements, elements), in_place).wait();
    expect_equal(in_place, expected, describe("all_gather in place", elements, type));
  }

  void check_broadcast(int64_t elements, at::ScalarType type) {
    for (int root = 0; root < size_; ++root) {
      const at::Tensor tensor = put(values(rank_, 2, elements, type));
      comm_.broadcast(tensor, root).wait();
      expect_equal(tensor, values(root, 2, elements, type),
                   describe("broadcast", elements, type) + fmt::format(" from rank {}", root));
    }
  }

  void check_all_to_all(int64_t elements, at::ScalarType type) {
    const auto whole = [&](int rank) { return values(rank, 3, elements * size_, type); };
    std::vector<at::Tensor> chunks;
    for (int rank = 0; rank < size_; ++rank)
      chunks.push_back(whole(rank).narrow(0, rank_ * elements, elements));
    const at::Tensor output = put_zeros({elements * size_}, type);
    comm_.all_to_all(put(whole(rank_)), output).wait();
    expect_equal(output, at::cat(chunks), describe("all_to_all", elements, type));
  }

  void check_reductions(int64_t elements, at::ScalarType type, ReduceOp op) {
    at::Tensor expected = values(0, 4, elements * size_, type);
    for (int rank = 1; rank < size_; ++rank)
      expected = reduce(op, expected, values(rank, 4, elements * size_, type));

    const at::Tensor all = put(values(rank_, 4, elements * size_, type));
    comm_.all_reduce(all, op).wait();
    expect_equal(all, expected,
                 describe("all_reduce", elements * size_, type) + fmt::format(" ({})", name(op)));

    const at::Tensor part = put_zeros({elements}, type);
    comm_.reduce_scatter(put(values(rank_, 4, elements * size_, type)), part, op).wait();
    expect_equal(part, expected.narrow(0, rank_ * elements, elements),
                 describe("reduce_scatter", elements, type) + fmt::format(" ({})", name(op)));
  }

  // Numbers whose sum depends on the order of the summands.
  at::Tensor uneven_numbers(int64_t elements) const {
    const at::Tensor steps = at::arange(elements, at::kDouble) + 1;
    return (steps * (0.37 + rank_)).sin().mul(1e3).exp2_().to(at::kFloat).clamp(-1e6, 1e6) / (rank_ + 3);
  }

  void check_bits(int64_t elements) {
    const at::Tensor numbers = uneven_numbers(elements * size_);
    const at::Tensor input = put(numbers);
    const at::Tensor sum = put(numbers.clone());
    const at::Tensor sum_part = put_zeros({elements}, at::kFloat);
    comm_.all_reduce(sum, ReduceOp::kSum).wait();
    comm_.reduce_scatter(input, sum_part, ReduceOp::kSum).wait();
    const at::Tensor first = get(sum), first_part = get(sum_part);
    for (int repeat = 0; repeat < 3; ++repeat) {
      const at::Tensor again = put(numbers.clone());
      const at::Tensor again_part = put_zeros({elements}, at::kFloat);
      comm_.all_reduce(again, ReduceOp::kSum).wait();
      comm_.reduce_scatter(input, again_part, ReduceOp::kSum).wait();
      expect_equal(again, first,
                   fmt::format("all_reduce: other bits when {} numbers are summed again", elements));
      expect_equal(again_part, first_part,
                   fmt::format("reduce_scatter: other bits when {} numbers are summed again", elements));
    }
    const at::Tensor everywhere = put_zeros({size_, first.numel()}, at::kFloat);
    comm_.all_gather(sum, everywhere).wait();
    const at::Tensor sums = get(everywhere);
    for (int rank = 0; rank < size_; ++rank)
      expect(sums[rank].equal(first), fmt::format("all_reduce: rank {} has other bits", rank));
  }

  // Waits in an order that is not that of the calls.
  void check_many_under_way() {
    constexpr int kCount = 64;
    std::vector<at::Tensor> inputs, outputs;
    std::vector<Work> works;
    for (int i = 0; i < kCount; ++i) {
      const int64_t elements = i % 7 * 5003 + 1;
      inputs.push_back(put(values(rank_, i, elements, at::kFloat)));
      outputs.push_back(put_zeros({elements * size_}, at::kFloat));
      works.push_back(comm_.all_gather(inputs.back(), outputs.back()));
      // The backend keeps these tensors.
      works.push_back(comm_.all_reduce(put(values(rank_, i, elements, at::kFloat)), ReduceOp::kSum));
      works.push_back(comm_.broadcast(put(at::full({3}, i, at::kInt)), i % size_));
    }
    for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait();
    for (int i = 0; i < kCount; ++i) {
      std::vector<at::Tensor> parts;
      for (int rank = 0; rank < size_; ++rank)
        parts.push_back(values(rank, i, inputs[i].numel(), at::kFloat));
      expect_equal(outputs[i], at::cat(parts), fmt::format("all_gather number {} of many under way", i));
    }
    expect(works.front().is_done(), "is_done: false after wait");
  }

  int next() const { return (rank_ + 1) % size_; }
  int previous() const { return (rank_ + size_ - 1) % size_; }

  // Around a ring in both directions, with receives in another order of tags than the sends.
  void check_messages(int64_t elements) {
    std::vector<Work> works;
    const at::Tensor from_previous = put_zeros({elements}, at::kDouble);
    const at::Tensor second_from_previous = put_zeros({elements}, at::kDouble);
    const at::Tensor from_next = put_zeros({elements + 1}, at::kInt);
    const at::Tensor up = put(values(rank_, 5, elements, at::kDouble));
    const at::Tensor second_up = put(values(rank_, 6, elements, at::kDouble));
    const at::Tensor down = put(values(rank_, 7, elements + 1, at::kInt));
    works.push_back(comm_.recv(from_next, next(), 32767));
    works.push_back(comm_.send(up, next(), 0));
    works.push_back(comm_.send(second_up, next(), 0));
    works.push_back(comm_.send(down, previous(), 32767));
    works.push_back(comm_.recv(from_previous, previous(), 0));
    works.push_back(comm_.recv(second_from_previous, previous(), 0));
    for (Work& work : works) work.wait();
    const std::string size = fmt::format(" with {} elements", elements);
    expect_equal(from_previous, values(previous(), 5, elements, at::kDouble), "send: first message" + size);
    expect_equal(second_from_previous, values(previous(), 6, elements, at::kDouble),
                 "send: second message" + size);
    expect_equal(from_next, values(next(), 7, elements + 1, at::kInt),
                 "send: message with another tag" + size);
  }

  // A receive that is answered last must not hold up what is called after it.
  void check_early_receive() {
    const at::Tensor early = put_zeros({5}, at::kLong);
    Work receipt = comm_.recv(early, previous(), 9);
    const at::Tensor total = put(at::full({1}, 1, at::kLong));
    comm_.all_reduce(total, ReduceOp::kSum).wait();
    comm_.barrier();
    expect(get(total).item<int64_t>() == size_, "all_reduce while a receive is open");
    expect(!receipt.is_done(), "recv: complete before anything was sent");
    comm_.barrier();
    comm_.send(put(values(rank_, 8, 5, at::kLong)), next(), 9).wait();
    receipt.wait();
    expect_equal(early, values(previous(), 8, 5, at::kLong), "recv that was posted early");
  }

  void check_groups() {
    const int color = rank_ % 2;
    const std::unique_ptr<Communicator> group = comm_.split(color, -rank_, "self_check");
    const int expected_size = (size_ + 1 - color) / 2;
    expect(group->size() == expected_size, "split: size of the group");
    expect(group->rank() == expected_size - 1 - rank_ / 2, "split: order by descending key");
    expect(group->name() == "self_check", "split: name of the group");
    const at::Tensor gathered = put(at::full({group->size()}, -1, at::kInt));
    group->all_gather(put(at::full({1}, rank_, at::kInt)), gathered).wait();
    const at::Tensor ranks = get(gathered);
    for (int i = 0; i < group->size(); ++i)
      expect(ranks[i].item<int>() == color + 2 * (expected_size - 1 - i), "split: members of the group");
    const at::Tensor sum = put(at::ones({3}, at::kFloat));
    Work outer = comm_.all_reduce(sum, ReduceOp::kSum);  // both communicators at once
    const at::Tensor inner_sum = put(at::ones({3}, at::kFloat));
    group->all_reduce(inner_sum, ReduceOp::kSum).wait();
    outer.wait();
    expect(get(sum)[2].item<float>() == static_cast<float>(size_), "all_reduce beside that of a group");
    expect(get(inner_sum)[2].item<float>() == static_cast<float>(group->size()), "all_reduce in a group");
    group->close();
  }

  Communicator& comm_;
  SelfCheckMemory& memory_;
  int rank_;
  int size_;
  std::vector<std::string> failures_;
};

}  // namespace

at::Tensor DeviceMemory::put(const at::Tensor& tensor) { return tensor.to(device_); }
at::Tensor DeviceMemory::get(const at::Tensor& tensor) { return tensor.to(at::kCPU); }

std::vector<std::string> self_check(Communicator& comm, SelfCheckMemory& memory) {
  return SelfCheck(comm, memory).run();
}

std::vector<std::string> self_check(Communicator& comm) {
  DeviceMemory memory(at::kCPU);
  return self_check(comm, memory);
}

}  // namespace tmd::comm
