#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "data/data_set.h"
#include "workers/batch_reader.h"
#include "workers/protocol.h"

namespace tmd::workers {

/// The data worker's end of workers/protocol.h for one trainer. Never blocks on the trainer, so that one
/// worker can serve many. Thread: one at a time.
class TrainerSession {
 public:
  /// Borrows both. `trainer`: its rank in `data`. Begins to wait for its plan.
  TrainerSession(comm::Communicator& data, data::DataSet& data_set, int trainer);

  /// Takes what has arrived and answers at most one credit with a batch (all that are left, with blanks, once
  /// the trainer closes). Returns false when there was nothing to do. `stop_requested` is told to the
  /// trainer. Errors of reading go to the trainer; what is thrown here is an error of communication
  /// (kPeerLost) or of the protocol (kInternal).
  bool serve(bool stop_requested);

  /// The trainer has closed, every credit is answered and every send complete.
  bool is_closed() const { return is_closing_ && credits_ == 0 && answers_.empty(); }

 private:
  /// Sends that have started, of one micro-batch or the greeting. The communicator holds their tensors until
  /// they are complete, and so keeps the reader from using the memory again.
  using Answer = std::array<comm::Work, 4>;

  bool start();
  bool forget_sent();
  bool take_control();
  void read_and_send(bool stop_requested);
  void send_blank(bool stop_requested);
  void send(const Batch& batch, const Details& details, bool stop_requested);

  comm::Communicator& data_;
  data::DataSet& data_set_;
  const int trainer_;
  at::Tensor message_;  // [kPlanWords], then [1] int64: what `arriving_` fills
  comm::Work arriving_;
  std::optional<BatchReader> reader_;  // once the plan has arrived
  std::deque<Answer> answers_;         // unfinished ones, oldest first
  int64_t credits_ = 0;
  int64_t next_ = 0;  // micro-batch of the next answer
  bool has_started_ = false, has_failed_ = false, is_closing_ = false;
};

}  // namespace tmd::workers
