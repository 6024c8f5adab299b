#include "comm/mpi_library.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <limits>
#include <string>

#include <mpi.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::comm {
namespace {

std::string text_of(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return fmt::format("MPI error {}", code);
  return std::string(text, static_cast<size_t>(length));
}

void mpi_check(int code, const char* call, ErrorKind kind = ErrorKind::kPeerLost) {
  if (code != MPI_SUCCESS) throw Error(kind, fmt::format("{} failed: {}", call, text_of(code)));
}

int class_of(int code) {
  int error_class = MPI_ERR_OTHER;
  MPI_Error_class(code, &error_class);
  return error_class;
}

// Collective over: `comm`.
int ranks_on_this_node(MPI_Comm comm, int rank) {
  MPI_Comm node = MPI_COMM_NULL;
  int ranks = 0;
  mpi_check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  mpi_check(MPI_Comm_size(node, &ranks), "MPI_Comm_size");
  mpi_check(MPI_Comm_free(&node), "MPI_Comm_free");
  return ranks;
}

int int_count(size_t count) {
  ensure(count <= static_cast<size_t>(std::numeric_limits<int>::max()), "the library counts in int");
  return static_cast<int>(count);
}

MPI_Datatype datatype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    default:
      return MPI_UINT8_T;
  }
}

MPI_Op operation_of(ReduceOp op) {
  return op == ReduceOp::kSum ? MPI_SUM : op == ReduceOp::kMin ? MPI_MIN : MPI_MAX;
}

const void* or_in_place(const std::byte* input) { return input ? input : MPI_IN_PLACE; }

}  // namespace

void mpi_initialize() {
  int provided = MPI_THREAD_SINGLE;
  // FUNNELED: the thread that initialises is the only one that calls.
  mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread",
            ErrorKind::kUnavailable);
  check(provided >= MPI_THREAD_FUNNELED, ErrorKind::kUnavailable,
        fmt::format("this MPI library gives thread level {} where MPI_THREAD_FUNNELED is needed", provided));
  mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
            ErrorKind::kUnavailable);
  void* largest_tag = nullptr;
  int is_set = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest_tag, &is_set);
  check(is_set && *static_cast<int*>(largest_tag) >= 65535, ErrorKind::kUnavailable,
        "this MPI library allows too few message tags (65535 are needed)");
}

void mpi_finalize() { mpi_check(MPI_Finalize(), "MPI_Finalize"); }

void mpi_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

struct MpiGroup::Handle {
  MPI_Comm comm = MPI_COMM_NULL;
};

MpiGroup::MpiGroup(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {
  mpi_check(MPI_Comm_set_errhandler(handle_->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  mpi_check(MPI_Comm_rank(handle_->comm, &rank_), "MPI_Comm_rank");
  mpi_check(MPI_Comm_size(handle_->comm, &size_), "MPI_Comm_size");
  is_on_one_node_ = size_ == ranks_on_this_node(handle_->comm, rank_);
}

MpiGroup::~MpiGroup() = default;

std::unique_ptr<MpiGroup> MpiGroup::world() {
  auto handle = std::make_unique<Handle>();
  mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &handle->comm), "MPI_Comm_dup", ErrorKind::kUnavailable);
  return std::unique_ptr<MpiGroup>(new MpiGroup(std::move(handle)));
}

std::unique_ptr<MpiGroup> MpiGroup::split(int color, int key) {
  auto handle = std::make_unique<Handle>();
  const int mpi_color = color < 0 ? MPI_UNDEFINED : color;
  mpi_check(MPI_Comm_split(handle_->comm, mpi_color, key, &handle->comm), "MPI_Comm_split");
  if (handle->comm == MPI_COMM_NULL) return nullptr;
  return std::unique_ptr<MpiGroup>(new MpiGroup(std::move(handle)));
}

void MpiGroup::free() { mpi_check(MPI_Comm_free(&handle_->comm), "MPI_Comm_free"); }

// In the place of the peer of a message.
constexpr int kAllRanks = -1;

struct MpiRequests::Pending {
  MpiListener* listener;
  size_t bytes;
  int peer;
  bool is_receive;
};

struct MpiRequests::Table {
  // Requests and what belongs to them, by the same index.
  std::vector<MPI_Request> requests;
  std::vector<Pending> pending;
  MPI_Request made = MPI_REQUEST_NULL;

  // What one call of poll found; members so that their memory is kept.
  std::vector<int> ended;
  std::vector<MPI_Status> statuses;

  /// `code` is how the request ended.
  static std::optional<Error> failure_of(const Pending& request, int code, const MPI_Status& status);
  void drop_ended();
};

// Requests that ended have become null. The others keep their order.
void MpiRequests::Table::drop_ended() {
  size_t kept = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i] == MPI_REQUEST_NULL) continue;
    requests[kept] = requests[i];
    pending[kept++] = pending[i];
  }
  requests.resize(kept);
  pending.resize(kept);
}

std::optional<Error> MpiRequests::Table::failure_of(const Pending& request, int code,
                                                    const MPI_Status& status) {
  int received = static_cast<int>(request.bytes);
  if (code == MPI_SUCCESS && request.is_receive) MPI_Get_count(&status, MPI_BYTE, &received);
  if (code == MPI_SUCCESS && static_cast<size_t>(received) == request.bytes) return std::nullopt;
  std::string what = fmt::format("{} {} bytes {} rank {}", request.is_receive ? "receiving" : "sending",
                                 request.bytes, request.is_receive ? "from" : "to", request.peer);
  if (request.peer == kAllRanks) what = fmt::format("a collective of the library of {} bytes", request.bytes);
  if (code == MPI_SUCCESS)
    return Error(ErrorKind::kInternal, fmt::format("{}: {} bytes came", what, received));
  if (class_of(code) == MPI_ERR_TRUNCATE)
    return Error(ErrorKind::kInternal, fmt::format("{}: more came ({})", what, text_of(code)));
  return Error(ErrorKind::kPeerLost, fmt::format("{} failed: {}", what, text_of(code)));
}

MpiRequests::MpiRequests() : table_(std::make_unique<Table>()) {}
MpiRequests::~MpiRequests() = default;

size_t MpiRequests::count() const { return table_->requests.size(); }

void MpiRequests::add(int code, const char* call, const Pending& pending) {
  if (code != MPI_SUCCESS) {
    pending.listener->on_request_done(
        Error(ErrorKind::kPeerLost,
              fmt::format("{} of {} bytes with {}: {}", call, pending.bytes,
                          pending.peer == kAllRanks ? "all ranks" : fmt::format("rank {}", pending.peer),
                          text_of(code))));
    return;
  }
  table_->requests.push_back(table_->made);
  table_->pending.push_back(pending);
}

void MpiRequests::send(const MpiGroup& group, int peer, int tag, const std::byte* data, size_t bytes,
                       MpiListener& listener) {
  ensure(bytes <= kMaxMessageBytes, "messages are cut before they are posted");
  const int code =
      MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, group.handle_->comm, &table_->made);
  add(code, "MPI_Isend", {.listener = &listener, .bytes = bytes, .peer = peer, .is_receive = false});
}

void MpiRequests::receive(const MpiGroup& group, int peer, int tag, std::byte* data, size_t bytes,
                          MpiListener& listener) {
  ensure(bytes <= kMaxMessageBytes, "messages are cut before they are posted");
  const int code =
      MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, group.handle_->comm, &table_->made);
  add(code, "MPI_Irecv", {.listener = &listener, .bytes = bytes, .peer = peer, .is_receive = true});
}

void MpiRequests::all_gather(const MpiGroup& group, const std::byte* input, std::byte* output, size_t bytes,
                             MpiListener& listener) {
  const int code = MPI_Iallgather(or_in_place(input), int_count(bytes), MPI_BYTE, output, int_count(bytes),
                                  MPI_BYTE, group.handle_->comm, &table_->made);
  add(code, "MPI_Iallgather",
      {.listener = &listener, .bytes = bytes, .peer = kAllRanks, .is_receive = false});
}

void MpiRequests::reduce_scatter(const MpiGroup& group, const std::byte* input, std::byte* output,
                                 size_t elements, at::ScalarType type, ReduceOp op, MpiListener& listener) {
  const int code = MPI_Ireduce_scatter_block(input, output, int_count(elements), datatype_of(type),
                                             operation_of(op), group.handle_->comm, &table_->made);
  add(code, "MPI_Ireduce_scatter_block",
      {.listener = &listener,
       .bytes = elements * c10::elementSize(type),
       .peer = kAllRanks,
       .is_receive = false});
}

void MpiRequests::all_reduce(const MpiGroup& group, std::byte* data, size_t elements, at::ScalarType type,
                             ReduceOp op, MpiListener& listener) {
  const int code = MPI_Iallreduce(MPI_IN_PLACE, data, int_count(elements), datatype_of(type),
                                  operation_of(op), group.handle_->comm, &table_->made);
  add(code, "MPI_Iallreduce",
      {.listener = &listener,
       .bytes = elements * c10::elementSize(type),
       .peer = kAllRanks,
       .is_receive = false});
}

void MpiRequests::broadcast(const MpiGroup& group, std::byte* data, size_t bytes, int root,
                            MpiListener& listener) {
  const int code = MPI_Ibcast(data, int_count(bytes), MPI_BYTE, root, group.handle_->comm, &table_->made);
  add(code, "MPI_Ibcast", {.listener = &listener, .bytes = bytes, .peer = kAllRanks, .is_receive = false});
}

void MpiRequests::all_to_all(const MpiGroup& group, const std::byte* input, std::byte* output, size_t bytes,
                             MpiListener& listener) {
  const int code = MPI_Ialltoall(input, int_count(bytes), MPI_BYTE, output, int_count(bytes), MPI_BYTE,
                                 group.handle_->comm, &table_->made);
  add(code, "MPI_Ialltoall", {.listener = &listener, .bytes = bytes, .peer = kAllRanks, .is_receive = false});
}

size_t MpiRequests::poll() {
  Table& table = *table_;
  const size_t count = table.requests.size();
  if (count == 0) return 0;
  table.ended.resize(count);
  table.statuses.resize(count);
  int ended = 0;
  const int code = MPI_Testsome(static_cast<int>(count), table.requests.data(), &ended, table.ended.data(),
                                table.statuses.data());
  if (code != MPI_ERR_IN_STATUS) mpi_check(code, "MPI_Testsome");
  if (ended == MPI_UNDEFINED || ended == 0) return 0;

  for (size_t i = 0; i < static_cast<size_t>(ended); ++i) {
    const Pending& request = table.pending[static_cast<size_t>(table.ended[i])];
    const MPI_Status& status = table.statuses[i];
    request.listener->on_request_done(
        Table::failure_of(request, code == MPI_SUCCESS ? MPI_SUCCESS : status.MPI_ERROR, status));
  }
  table.drop_ended();
  return static_cast<size_t>(ended);
}

}  // namespace tmd::comm
