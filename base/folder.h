#pragma once

#include <filesystem>
#include <vector>

namespace tmd {

// Folder operations whose effects survive a crash. All throw kIo that names the paths.

/// Makes names that were created, renamed or removed in `folder` durable.
void sync_folder(const std::filesystem::path& folder);

/// Creates `folder` and its parents where they are missing.
void create_folders(const std::filesystem::path& folder);

/// The entries of `folder`, sorted by name; none when it does not exist.
std::vector<std::filesystem::path> list_folder(const std::filesystem::path& folder);

/// Renames a file or folder within one file system and syncs the parent of `to`.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// Removes a file, or a folder with its content; nothing happens when there is none.
void remove_tree(const std::filesystem::path& path);

/// Syncs every file and folder inside `temporary`, renames it to `final_path` and syncs the parent.
/// `final_path` must not exist as a file or as a folder with content; both lie in the same folder.
void publish_folder(const std::filesystem::path& temporary, const std::filesystem::path& final_path);

}  // namespace tmd
