#pragma once

#include <filesystem>
#include <vector>

namespace tmd {

// Folder operations. All throw kIo that names the paths. What survives a crash is said at each.

/// `path` made absolute, without "." and "..", and without a slash at its end.
std::filesystem::path plain_path(const std::filesystem::path& path);

/// Makes names that were created, renamed or removed in `folder` durable. Where the file system refuses to
/// sync folders nothing happens.
void sync_folder(const std::filesystem::path& folder);

/// Creates `folder` and its parents where they are missing. Syncs nothing.
void create_folders(const std::filesystem::path& folder);

/// Paths of the entries of `folder` (each begins with `folder`), sorted; none when it does not exist. Throws
/// when it is no folder.
std::vector<std::filesystem::path> list_folder(const std::filesystem::path& folder);

/// Renames a file or folder within one file system and syncs the parent of `to`. Replaces a file or an empty
/// folder that is called `to`.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// Removes a file, or a folder with its content; nothing happens when there is none. Syncs nothing.
void remove_tree(const std::filesystem::path& path);

/// Syncs every file and folder inside `temporary`, renames it to `final_path` and syncs the parent.
/// `final_path` must not exist as a file or as a folder with content; both lie in the same folder.
void publish_folder(const std::filesystem::path& temporary, const std::filesystem::path& final_path);

}  // namespace tmd
