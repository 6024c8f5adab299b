#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::comm {

/// How the collectives of a host communicator move their data. Messages and window reduce in rank order and
/// give the same bits.
enum class Algorithm {
  kMessages,  ///< messages of the MPI library between all pairs of ranks; on any ranks
  kWindow,    ///< memory that all ranks of the group map (comm/node_window.h); on the ranks of one node
  kLibrary,  ///< the non-blocking collectives of the MPI library; never chosen, to be compared with. They may
             ///< reduce in another order, and minimum and maximum need not be NaN where an input is
};

/// "messages", "window", "library".
const char* name(Algorithm algorithm);

// The choice. Measured by `tmd bench comm` on 2, 3 and 4 ranks (docs/performance.md): through the window data
// is copied twice, but in the cache, in one round and without messages of the library, which copies large
// ones once, by the kernel.
//
//   group                                      operation                            algorithm
//   several nodes; one node whose ranks        all                                  messages
//   share no memory; > kMaxWindowRanks ranks
//   one node                                   all_gather, reduce_scatter,          window
//                                              all_reduce, broadcast
//   one node                                   all_to_all up to kWindowAllToAll     window
//                                              all_to_all above                     messages
//   any                                        send, recv, barrier                  messages

/// A slot of the window is cut into one piece for each rank: more ranks would make the pieces tiny.
inline constexpr int kMaxWindowRanks = 256;

/// Bytes of `input` up to which all_to_all uses the window: above, messages were 0 to 40 % faster.
inline constexpr size_t kWindowAllToAll = 128 * 1024;

/// Tensors up to this size are reduced by gathering them on all ranks: one round of data instead of two.
inline constexpr size_t kSmallReduceBytes = 32 * 1024;

/// A communicator of the same ranks whose collectives, and those of its groups, all use `algorithm`; none
/// when the ranks cannot use it. For measurements and tests. Errors: those of Communicator::split; kInternal
/// for a communicator of another backend. Collective over: `comm`.
std::unique_ptr<Communicator> with_algorithm(Communicator& comm, Algorithm algorithm,
                                             const std::string& name);

}  // namespace tmd::comm
