#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comm/journal.h"

namespace tmd::comm {

class MpiProgressThread;

/// MPI from its initialisation to its end. `main` declares it before everything else:
///   MpiRuntime mpi;
///   try { ...; mpi.finalize(); } catch (const Error& e) { ...; mpi.abort(e.exit_code()); }
/// One thread, owned by this object, makes all calls of the library (comm/mpi_progress_thread.h).
/// One object per process, ever.
class MpiRuntime {
 public:
  /// Collective over: all processes of the program (a program that no launcher started is one rank).
  /// Throws kUnavailable; kInternal for a second object.
  MpiRuntime();

  /// Not finalized: logs that and leaks, for the process is on its way to its end.
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// All ranks. Valid until `finalize`, which closes it. With one rank its operations call no library.
  Communicator& world() { return *world_; }

  /// Where every operation of this process is entered. Valid as long as this object.
  Journal& journal() { return *journal_; }

  /// For tests: from now on the progress thread sleeps for a random time up to `longest` before each piece of
  /// its work; zero ends that. Thread: any.
  void delay_work(std::chrono::microseconds longest);

  /// Ends MPI on the good path, after all communicators that were split off have been closed.
  /// Collective over: all processes. Throws kInternal at a second call, and when operations are still under
  /// way: only `abort` may follow then.
  void finalize();

  /// Ends all processes of the program; the launcher returns `code`. A process that the library has not ended
  /// after five seconds leaves by itself. Thread: any.
  [[noreturn]] void abort(int code) noexcept;

 private:
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<MpiProgressThread> thread_;
  std::unique_ptr<Communicator> world_;
  int rank_ = 0;
  int size_ = 1;
  bool is_finalized_ = false;
};

/// How many ranks the launcher or batch system says it started, and the environment variable that says so; 0
/// when none does.
struct Allocation {
  int ranks = 0;
  std::string source;
};
Allocation launched_ranks();

}  // namespace tmd::comm
