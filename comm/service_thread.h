#pragma once

namespace tmd::comm {

/// What a thread that serves a communication library begins with: its name (at most 15 characters), naps that
/// end when they should, and no signals, whose handlers run on the host's threads.
void begin_service_thread(const char* name);

}  // namespace tmd::comm
