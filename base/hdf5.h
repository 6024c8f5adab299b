#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_handle.h"

// The HDF5 C library, each call checked; only hdf5.cpp includes its header. Every failed call becomes an
// Error whose text carries HDF5's own error stack. Numbers of data sets are moved in the file's element type:
// letting HDF5 convert half to float is hundreds of times slower than a loop. Thread: any; HDF5 takes one
// lock for the whole process, so threads do not read faster than one.
namespace tmd {

/// Element types that the project stores; all little-endian, as in memory.
enum class ElementType { kFloat16, kFloat32, kFloat64, kUint16, kInt32, kInt64, kUint64, kString, kOther };
std::string_view name(ElementType type);
/// Bytes of one element. Throws kInternal for kString and kOther.
size_t size_bytes(ElementType type);

enum class DatasetLayout { kContiguous, kChunked, kCompressed, kCompact };

struct DatasetInfo {
  std::vector<int64_t> shape;  ///< empty for a scalar
  ElementType type = ElementType::kOther;
  DatasetLayout layout = DatasetLayout::kContiguous;
  std::vector<int64_t> chunk;  ///< as long as shape; empty unless chunked

  /// Product of the shape; 1 for a scalar.
  int64_t elements() const;
  /// Elements of one row (index of the first dimension); 1 for a list and for a scalar.
  int64_t row_elements() const;
};

void close_hdf5_file(int64_t id) noexcept;
void close_hdf5_dataset(int64_t id) noexcept;

/// Attributes of a file or data set; borrowed, valid as long as the object that gave it.
/// Errors: kIo when HDF5 fails, besides those named.
class Hdf5Attributes {
 public:
  Hdf5Attributes(int64_t owner, std::string label) : owner_(owner), label_(std::move(label)) {}

  bool has(const std::string& attribute) const;
  /// A string of fixed or variable length (one element); empty optional when absent, kData when it is not one
  /// string.
  std::optional<std::string> text(const std::string& attribute) const;
  /// Integers, floats or h5py's bool, scalar or array (flattened), as double; empty optional when absent,
  /// kData when it is no number.
  std::optional<std::vector<double>> numbers(const std::string& attribute) const;

  /// One integer of any width from 0 to 2^64 - 1, exactly, which `numbers` is not beyond 2^53; empty optional
  /// when absent, kData when it is none.
  std::optional<uint64_t> unsigned_integer(const std::string& attribute) const;

  // Writers; each throws kIo when the attribute exists or cannot be written.
  void write_text(const std::string& attribute, std::string_view value);            ///< variable-length UTF-8
  void write_integer(const std::string& attribute, int64_t value);                  ///< int64
  void write_unsigned(const std::string& attribute, uint64_t value);                ///< uint64
  void write_number(const std::string& attribute, double value);                    ///< float64
  void write_numbers(const std::string& attribute, std::span<const float> values);  ///< float32 [n]
  void write_bool(const std::string& attribute, bool value);                        ///< as h5py writes bool

 private:
  int64_t owner_;
  std::string label_;
};

/// One open data set. May outlive its file object: HDF5 keeps the file open until the last handle closes.
/// Errors: kIo when HDF5 cannot read (bad filter, damaged file) or write; kInternal for rows outside the data
/// set; others as named.
class Hdf5Dataset {
 public:
  /// Owns the open handle `id` from now on. `label` is used in messages.
  Hdf5Dataset(int64_t id, std::string label);

  const DatasetInfo& info() const { return info_; }
  const std::string& label() const { return label_; }  ///< "/latents of clips.h5"
  Hdf5Attributes attributes() const { return {id_.get(), label_}; }

  /// Rows [first, first + count) in the file's element type, row-major. `out` has exactly their size in
  /// bytes, else kInternal. Scalars: first 0, count 1. Throws kData for kString and kOther.
  void read_rows(int64_t first, int64_t count, std::span<std::byte> out) const;
  /// The reverse of read_rows; kInternal for kString and kOther too.
  void write_rows(int64_t first, int64_t count, std::span<const std::byte> rows);

  /// All elements, row-major, of an integer data set of any width. Throws kData when it holds no integers.
  std::vector<int64_t> read_integers() const;
  /// Strings [first, first + count) of a list of strings, fixed or variable length. Throws kData when they
  /// are none.
  std::vector<std::string> read_strings(int64_t first, int64_t count) const;
  /// All strings of a kString data set at once, each up to its first NUL. Throws kInternal when the type or
  /// the number of strings is another.
  void write_strings(std::span<const std::string> strings);

 private:
  UniqueHandle<int64_t, -1, &close_hdf5_dataset> id_;
  std::string label_;
  DatasetInfo info_;
};

/// One open file. File locking is off: it fails on network file systems, and files are static while they are
/// read.
class Hdf5File {
 public:
  /// Read only. Throws kData: no such file, a folder, not HDF5, truncated; kIo: cannot be opened otherwise.
  static Hdf5File open(const std::filesystem::path& path);
  /// Read and write an existing file. Throws as open().
  static Hdf5File open_for_update(const std::filesystem::path& path);
  /// A new file; replaces one of the same name. Throws kIo.
  static Hdf5File create(const std::filesystem::path& path);

  /// Whether the file has a link of this name, a data set or a group. Throws kIo when a group in front of it
  /// is missing.
  bool has(const std::string& dataset) const;
  /// Throws kData when there is no such data set, or something else has its name.
  Hdf5Dataset dataset(const std::string& name) const;
  /// `shape` empty: a scalar. `chunk` empty: contiguous. kString makes variable-length UTF-8. Throws kIo,
  /// also when the name is taken; kInternal for kOther and for a chunk with another number of dimensions.
  Hdf5Dataset create_dataset(const std::string& name, ElementType type, std::span<const int64_t> shape,
                             std::span<const int64_t> chunk = {});
  Hdf5Attributes attributes() const { return {id_.get(), path_.string()}; }
  const std::filesystem::path& path() const { return path_; }

  /// Writes what is buffered and closes; throws kIo when that fails (full disk), which a destructor cannot.
  /// May be called again.
  void close();

 private:
  Hdf5File(int64_t id, std::filesystem::path path) : id_(id), path_(std::move(path)) {}

  UniqueHandle<int64_t, -1, &close_hdf5_file> id_;
  std::filesystem::path path_;
};

}  // namespace tmd
