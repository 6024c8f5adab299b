#include "sharding/token_exchange.h"

#include <chrono>
#include <functional>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace tmd::sharding {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Move = std::function<at::Tensor(const at::Tensor&)>;

// How data moves in each pass; travels in the autograd context.
struct Moves : torch::CustomClassHolder {
  Move forward, backward;
};

class MoveFunction : public torch::autograd::Function<MoveFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Moves>& moves,
                            const at::Tensor& x) {
    context->saved_data["moves"] = c10::IValue::make_capsule(moves);
    return moves->forward(x);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradient) {
    const auto moves = c10::static_intrusive_pointer_cast<Moves>(context->saved_data["moves"].toCapsule());
    return {at::Tensor(), moves->backward(gradient[0])};
  }
};

at::Tensor apply(const at::Tensor& x, Move forward, Move backward) {
  auto moves = c10::make_intrusive<Moves>();
  moves->forward = std::move(forward);
  moves->backward = std::move(backward);
  return MoveFunction::apply(moves, x);
}

at::Tensor summable(const at::Tensor& x) {
  return (x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x).contiguous();
}

comm::Communicator* unless_alone(comm::Communicator& group) { return group.size() > 1 ? &group : nullptr; }

std::vector<int64_t> with_rows(const at::Tensor& x, int64_t rows) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[1] = rows;
  return shape;
}

// Rows (dimension 1) up to `rows`; the new ones are zero.
at::Tensor padded(const at::Tensor& x, int64_t rows) {
  if (x.size(1) == rows) return x;
  return at::cat({x, at::zeros(with_rows(x, rows - x.size(1)), x.options())}, 1);
}

}  // namespace

TokenExchange::TokenExchange(const Mesh& mesh, int64_t tokens, double* seconds)
    : sample_(unless_alone(mesh.sample_group())),
      sequence_(unless_alone(mesh.sequence_group())),
      tensor_(unless_alone(mesh.tensor_group())),
      tokens_(tokens),
      rows_((tokens + mesh.sample_group().size() - 1) / mesh.sample_group().size()),
      seconds_(seconds) {}

void TokenExchange::finish(comm::Work work) const {
  const auto start = std::chrono::steady_clock::now();
  work.wait();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (seconds_) *seconds_ += took.count();
}

at::Tensor TokenExchange::gather_rows(comm::Communicator& group, const at::Tensor& rows) const {
  const at::Tensor own = rows.contiguous();
  std::vector<int64_t> shape = own.sizes().vec();
  shape.insert(shape.begin(), group.size());
  const at::Tensor all = at::empty(shape, own.options());  // [ranks, B, n, ...]
  finish(group.all_gather(own, all));
  return all.transpose(0, 1).reshape(with_rows(own, group.size() * own.size(1)));
}

at::Tensor TokenExchange::scatter_sum(comm::Communicator& group, const at::Tensor& contribution) const {
  const int64_t ranks = group.size(), rows = contribution.size(1) / ranks;
  std::vector<int64_t> shape = contribution.sizes().vec();
  shape[1] = rows;
  shape.insert(shape.begin() + 1, ranks);
  const at::Tensor input = summable(contribution.reshape(shape).transpose(0, 1));  // [ranks, B, n, ...]
  const at::Tensor output = at::empty(with_rows(contribution, rows), input.options());
  finish(group.reduce_scatter(input, output, comm::ReduceOp::kSum));
  return output.to(contribution.scalar_type());
}

at::Tensor TokenExchange::sum(comm::Communicator& group, const at::Tensor& x) const {
  const at::Tensor total = summable(x).clone();
  finish(group.all_reduce(total, comm::ReduceOp::kSum));
  return total.to(x.scalar_type());
}

at::Tensor TokenExchange::slice_rows(const at::Tensor& whole) const {
  return padded(whole, rows_ * sample_->size()).narrow(1, sample_->rank() * rows_, rows_).contiguous();
}

at::Tensor TokenExchange::own_rows(const at::Tensor& whole) const {
  if (!sample_) return whole;
  const TokenExchange self = *this;
  return apply(
      whole, [self](const at::Tensor& x) { return self.slice_rows(x); },
      [self](const at::Tensor& g) { return self.gather_rows(*self.sample_, g).narrow(1, 0, self.tokens_); });
}

at::Tensor TokenExchange::whole(const at::Tensor& rows) const {
  if (!sample_) return rows;
  const TokenExchange self = *this;
  return apply(
      rows,
      [self](const at::Tensor& x) { return self.gather_rows(*self.sample_, x).narrow(1, 0, self.tokens_); },
      [self](const at::Tensor& g) { return self.slice_rows(g); });
}

at::Tensor TokenExchange::whole_for_each(const at::Tensor& rows) const {
  if (!sample_) return rows;
  const TokenExchange self = *this;
  return apply(
      rows,
      [self](const at::Tensor& x) { return self.gather_rows(*self.sample_, x).narrow(1, 0, self.tokens_); },
      [self](const at::Tensor& g) {
        return self.scatter_sum(*self.sample_, padded(g, self.rows_ * self.sample_->size()));
      });
}

at::Tensor TokenExchange::chunk(const at::Tensor& rows) const {
  if (!tensor_) return rows;
  const TokenExchange self = *this;
  return apply(
      rows, [self](const at::Tensor& x) { return self.gather_rows(*self.tensor_, x); },
      [self](const at::Tensor& g) { return self.scatter_sum(*self.tensor_, g); });
}

at::Tensor TokenExchange::sum_to_rows(const at::Tensor& contribution) const {
  if (!tensor_) return contribution;
  const TokenExchange self = *this;
  return apply(
      contribution, [self](const at::Tensor& x) { return self.scatter_sum(*self.tensor_, x); },
      [self](const at::Tensor& g) { return self.gather_rows(*self.tensor_, g); });
}

void TokenExchange::sum_over_tensor(at::Tensor& x) const {
  if (tensor_) finish(tensor_->all_reduce(x, comm::ReduceOp::kSum));
}

// [B, c, Q * h, ...] -> [B, N, h, ...]: slice r of the heads goes to rank r, whose chunks come back in order.
at::Tensor TokenExchange::to_tokens(const at::Tensor& chunk) const {
  const int64_t ranks = sequence_->size();
  std::vector<int64_t> shape = chunk.sizes().vec();
  shape[2] /= ranks;
  shape.insert(shape.begin() + 2, ranks);                                   // [B, c, Q, h, ...]
  const at::Tensor sent = chunk.reshape(shape).movedim(2, 0).contiguous();  // [Q, B, c, h, ...]
  const at::Tensor received = at::empty_like(sent);
  finish(sequence_->all_to_all(sent, received));
  shape.erase(shape.begin() + 2);
  shape[1] *= ranks;
  return received.transpose(0, 1).reshape(shape).narrow(1, 0, tokens_);
}

at::Tensor TokenExchange::to_heads(const at::Tensor& tokens) const {
  const int64_t ranks = sequence_->size();
  std::vector<int64_t> shape = tokens.sizes().vec();
  shape[1] = chunk_rows();
  shape.insert(shape.begin() + 1, ranks);  // [B, Q, c, h, ...]
  const at::Tensor sent = padded(tokens, ranks * chunk_rows()).reshape(shape).transpose(0, 1).contiguous();
  const at::Tensor received = at::empty_like(sent);  // [Q, B, c, h, ...], Q counts heads now
  finish(sequence_->all_to_all(sent, received));
  shape.erase(shape.begin() + 1);
  shape[2] *= ranks;
  return received.movedim(0, 2).reshape(shape);
}

at::Tensor TokenExchange::all_tokens(const at::Tensor& chunk) const {
  if (!sequence_) return chunk.size(1) == tokens_ || tokens_ == 0 ? chunk : chunk.narrow(1, 0, tokens_);
  const TokenExchange self = *this;
  return apply(
      chunk, [self](const at::Tensor& x) { return self.to_tokens(x); },
      [self](const at::Tensor& g) { return self.to_heads(g); });
}

at::Tensor TokenExchange::all_heads(const at::Tensor& tokens) const {
  if (!sequence_) return tokens_ == 0 ? tokens : padded(tokens, chunk_rows());
  const TokenExchange self = *this;
  return apply(
      tokens, [self](const at::Tensor& x) { return self.to_heads(x); },
      [self](const at::Tensor& g) { return self.to_tokens(g); });
}

at::Tensor TokenExchange::summing_gradient(const at::Tensor& x) const {
  if (!sample_ || !x.requires_grad()) return x;
  const TokenExchange self = *this;
  return apply(
      x, [](const at::Tensor& t) { return t.clone(); },
      [self](const at::Tensor& g) { return self.sum(*self.sample_, g); });
}

at::Tensor sum_of_dealt(const Mesh& mesh, const at::Tensor& x) {
  if (mesh.sample_group().size() == 1) return x;
  return apply(
      x,
      [group = &mesh.sample_group()](const at::Tensor& t) {
        const at::Tensor total = summable(t).clone();
        group->all_reduce(total, comm::ReduceOp::kSum).wait();
        return total.to(t.scalar_type());
      },
      [](const at::Tensor& g) { return g; });
}

}  // namespace tmd::sharding
