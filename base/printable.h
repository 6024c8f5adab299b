#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tmd {

/// Text of a stranger, such as a name in a file, as it may stand in a message: control characters are escaped
/// (a zero byte would end the message), and what goes beyond 200 bytes is cut off between two characters.
std::string printable(std::string_view text);
/// The numbers with ", " between them; those after the sixteenth are left out.
std::string printable(std::span<const uint64_t> numbers);

}  // namespace tmd
