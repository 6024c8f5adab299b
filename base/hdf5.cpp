#include "base/hdf5.h"

#include <bit>
#include <functional>
#include <memory>
#include <numeric>

#include <hdf5.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

static_assert(H5_VERSION_GE(1, 10, 7), "switching file locking off needs HDF5 1.10.7");
static_assert(std::is_same_v<hid_t, int64_t>, "hdf5.h of this project stores handles as int64_t");
static_assert(std::endian::native == std::endian::little, "stored bytes are used as they are");

namespace tmd {

void close_hdf5_file(int64_t id) noexcept { H5Fclose(id); }
void close_hdf5_dataset(int64_t id) noexcept { H5Dclose(id); }

namespace {

void close_type(int64_t id) noexcept { H5Tclose(id); }
void close_space(int64_t id) noexcept { H5Sclose(id); }
void close_attribute(int64_t id) noexcept { H5Aclose(id); }
void close_property_list(int64_t id) noexcept { H5Pclose(id); }
using Type = UniqueHandle<int64_t, -1, &close_type>;
using Space = UniqueHandle<int64_t, -1, &close_space>;
using Attribute = UniqueHandle<int64_t, -1, &close_attribute>;
using PropertyList = UniqueHandle<int64_t, -1, &close_property_list>;

// HDF5 prints its error stack by itself unless told not to; the setting belongs to the thread.
void silence_library() {
  thread_local const bool silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)silent;
}

herr_t append_error(unsigned, const H5E_error2_t* error, void* text) {
  auto& out = *static_cast<std::string*>(text);
  const std::string line = error->desc ? error->desc : "";
  if (!line.empty() && out.find(line) == std::string::npos) out += (out.empty() ? "" : "; ") + line;
  return 0;
}

std::string error_stack() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &append_error, &text);
  return text.empty() ? "no details" : text;
}

template <class Result>
Result check_hdf5(Result result, const char* call, const std::string& object,
                  ErrorKind kind = ErrorKind::kIo) {
  if (result < 0) throw Error(kind, fmt::format("{}: {} failed: {}", object, call, error_stack()));
  return result;
}

// The half type of h5py and numpy: HDF5 1.10 has no name for it.
Type half_type() {
  Type type(check_hdf5(H5Tcopy(H5T_IEEE_F32LE), "H5Tcopy", "half type"));
  check_hdf5(H5Tset_fields(type.get(), 15, 10, 5, 0, 10), "H5Tset_fields", "half type");
  check_hdf5(H5Tset_size(type.get(), 2), "H5Tset_size", "half type");
  check_hdf5(H5Tset_ebias(type.get(), 15), "H5Tset_ebias", "half type");
  return type;
}

Type variable_string_type() {
  Type type(check_hdf5(H5Tcopy(H5T_C_S1), "H5Tcopy", "string type"));
  check_hdf5(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size", "string type");
  check_hdf5(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset", "string type");
  return type;
}

Type file_type(ElementType type) {
  silence_library();
  const auto copy = [](hid_t id) { return Type(check_hdf5(H5Tcopy(id), "H5Tcopy", "element type")); };
  switch (type) {
    case ElementType::kFloat16:
      return half_type();
    case ElementType::kFloat32:
      return copy(H5T_IEEE_F32LE);
    case ElementType::kFloat64:
      return copy(H5T_IEEE_F64LE);
    case ElementType::kUint16:
      return copy(H5T_STD_U16LE);
    case ElementType::kInt32:
      return copy(H5T_STD_I32LE);
    case ElementType::kInt64:
      return copy(H5T_STD_I64LE);
    case ElementType::kUint64:
      return copy(H5T_STD_U64LE);
    case ElementType::kString:
      return variable_string_type();
    case ElementType::kOther:
      break;
  }
  throw Error(ErrorKind::kInternal, "a data set of an unnamed element type cannot be made");
}

ElementType element_type_of(hid_t type) {
  if (H5Tget_class(type) == H5T_STRING) return ElementType::kString;
  for (ElementType candidate :
       {ElementType::kFloat16, ElementType::kFloat32, ElementType::kFloat64, ElementType::kUint16,
        ElementType::kInt32, ElementType::kInt64, ElementType::kUint64}) {
    if (H5Tequal(type, file_type(candidate).get()) > 0) return candidate;
  }
  return ElementType::kOther;
}

std::vector<int64_t> shape_of(hid_t space, const std::string& label) {
  const int rank = check_hdf5(H5Sget_simple_extent_ndims(space), "H5Sget_simple_extent_ndims", label);
  std::vector<hsize_t> dims(rank);
  check_hdf5(H5Sget_simple_extent_dims(space, dims.data(), nullptr), "H5Sget_simple_extent_dims", label);
  return {dims.begin(), dims.end()};
}

void read_layout(hid_t dataset, const std::string& label, DatasetInfo& info) {
  const PropertyList list(check_hdf5(H5Dget_create_plist(dataset), "H5Dget_create_plist", label));
  switch (check_hdf5(H5Pget_layout(list.get()), "H5Pget_layout", label)) {
    case H5D_COMPACT:
      info.layout = DatasetLayout::kCompact;
      return;
    case H5D_CHUNKED:
      break;
    default:
      info.layout = DatasetLayout::kContiguous;
      return;
  }
  const int filters = check_hdf5(H5Pget_nfilters(list.get()), "H5Pget_nfilters", label);
  info.layout = filters > 0 ? DatasetLayout::kCompressed : DatasetLayout::kChunked;
  std::vector<hsize_t> chunk(info.shape.size());
  check_hdf5(H5Pget_chunk(list.get(), static_cast<int>(chunk.size()), chunk.data()), "H5Pget_chunk", label);
  info.chunk.assign(chunk.begin(), chunk.end());
}

struct Selection {
  Space file, memory;
};

Selection select_rows(hid_t dataset, const DatasetInfo& info, int64_t first, int64_t count,
                      const std::string& label) {
  const int64_t rows = info.shape.empty() ? 1 : info.shape[0];
  if (first < 0 || count < 0 || first + count > rows) {
    throw Error(ErrorKind::kInternal,
                fmt::format("{}: rows {} to {} asked for, it has {}", label, first, first + count - 1, rows));
  }
  Space file(check_hdf5(H5Dget_space(dataset), "H5Dget_space", label));
  if (info.shape.empty())
    return {std::move(file), Space(check_hdf5(H5Screate(H5S_SCALAR), "H5Screate", label))};
  std::vector<hsize_t> start(info.shape.size(), 0), size(info.shape.begin(), info.shape.end());
  start[0] = first;
  size[0] = count;
  check_hdf5(H5Sselect_hyperslab(file.get(), H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr),
             "H5Sselect_hyperslab", label);
  Space memory(check_hdf5(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr),
                          "H5Screate_simple", label));
  return {std::move(file), std::move(memory)};
}

size_t rows_size_bytes(const DatasetInfo& info, int64_t count) {
  return static_cast<size_t>(count * info.row_elements()) * size_bytes(info.type);
}

// Reads `count` strings through `read(memory type, buffer)`, which is H5Dread or H5Aread.
std::vector<std::string> read_string_elements(hid_t stored_type, int64_t count, hid_t memory_space,
                                              const std::function<void(hid_t, void*)>& read) {
  std::vector<std::string> strings;
  if (H5Tis_variable_str(stored_type) > 0) {
    const Type type = variable_string_type();
    H5Tset_cset(type.get(), H5Tget_cset(stored_type));
    std::vector<char*> pointers(count, nullptr);
    read(type.get(), pointers.data());
    for (const char* pointer : pointers) strings.emplace_back(pointer ? pointer : "");
    H5Dvlen_reclaim(type.get(), memory_space, H5P_DEFAULT, pointers.data());
    return strings;
  }
  const size_t width = H5Tget_size(stored_type);
  std::vector<char> buffer(width * count);
  read(stored_type, buffer.data());
  const bool space_padded = H5Tget_strpad(stored_type) == H5T_STR_SPACEPAD;
  for (int64_t i = 0; i < count; ++i) {
    const char* begin = buffer.data() + width * i;
    std::string text(begin, strnlen(begin, width));
    while (space_padded && !text.empty() && text.back() == ' ') text.pop_back();
    strings.push_back(std::move(text));
  }
  return strings;
}

hid_t open_existing(const std::filesystem::path& path, unsigned flags) {
  silence_library();
  const std::string file = path.string();
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  check(std::filesystem::exists(status), ErrorKind::kData, fmt::format("no such file: {}", file));
  check(!std::filesystem::is_directory(status), ErrorKind::kData,
        fmt::format("{} is a folder, not an HDF5 file", file));
  const htri_t is_hdf5 = check_hdf5(H5Fis_hdf5(file.c_str()), "H5Fis_hdf5", file);
  check(is_hdf5 > 0, ErrorKind::kData, fmt::format("{} is not an HDF5 file", file));
  const PropertyList access(check_hdf5(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate", file));
  check_hdf5(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking", file);
  const hid_t id = H5Fopen(file.c_str(), flags, access.get());
  if (id >= 0) return id;
  const std::string stack = error_stack();
  if (stack.find("truncated file") != std::string::npos) {
    throw Error(ErrorKind::kData, fmt::format("{} is truncated: {}", file, stack),
                "the copy or the program that wrote it was interrupted; copy or write it again");
  }
  throw Error(ErrorKind::kIo, fmt::format("{} cannot be opened: {}", file, stack));
}

}  // namespace

std::string_view name(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat64:
      return "float64";
    case ElementType::kUint16:
      return "uint16";
    case ElementType::kInt32:
      return "int32";
    case ElementType::kInt64:
      return "int64";
    case ElementType::kUint64:
      return "uint64";
    case ElementType::kString:
      return "string";
    case ElementType::kOther:
      return "another type";
  }
  return "another type";
}

size_t size_bytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
    case ElementType::kUint16:
      return 2;
    case ElementType::kFloat32:
    case ElementType::kInt32:
      return 4;
    case ElementType::kFloat64:
    case ElementType::kInt64:
    case ElementType::kUint64:
      return 8;
    case ElementType::kString:
    case ElementType::kOther:
      break;
  }
  throw Error(ErrorKind::kInternal, fmt::format("elements of {} have no fixed size", name(type)));
}

int64_t DatasetInfo::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t DatasetInfo::row_elements() const {
  return shape.empty() ? 1 : std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
}

// ---- attributes

namespace {

struct OpenAttribute {
  std::string object;  // what errors call it
  Attribute id;
  Type type;
  Space space;
  int64_t count;  // elements
};

OpenAttribute open_attribute(hid_t owner, const std::string& attribute, const std::string& label) {
  const std::string object = fmt::format("attribute '{}' of {}", attribute, label);
  Attribute id(check_hdf5(H5Aopen(owner, attribute.c_str(), H5P_DEFAULT), "H5Aopen", object));
  Type type(check_hdf5(H5Aget_type(id.get()), "H5Aget_type", object));
  Space space(check_hdf5(H5Aget_space(id.get()), "H5Aget_space", object));
  const int64_t count =
      check_hdf5(H5Sget_simple_extent_npoints(space.get()), "H5Sget_simple_extent_npoints", object);
  return {object, std::move(id), std::move(type), std::move(space), count};
}

}  // namespace

bool Hdf5Attributes::has(const std::string& attribute) const {
  silence_library();
  return check_hdf5(H5Aexists(owner_, attribute.c_str()), "H5Aexists", label_) > 0;
}

std::optional<std::string> Hdf5Attributes::text(const std::string& attribute) const {
  if (!has(attribute)) return std::nullopt;
  const auto [object, id, type, space, count] = open_attribute(owner_, attribute, label_);
  if (H5Tget_class(type.get()) != H5T_STRING || count != 1) {
    throw Error(ErrorKind::kData, fmt::format("{} must be one string", object));
  }
  return read_string_elements(type.get(), 1, space.get(), [&](hid_t memory_type, void* buffer) {
    check_hdf5(H5Aread(id.get(), memory_type, buffer), "H5Aread", object);
  })[0];
}

std::optional<std::vector<double>> Hdf5Attributes::numbers(const std::string& attribute) const {
  if (!has(attribute)) return std::nullopt;
  const auto [object, id, type, space, count] = open_attribute(owner_, attribute, label_);
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind != H5T_INTEGER && kind != H5T_FLOAT && kind != H5T_ENUM) {
    throw Error(ErrorKind::kData, fmt::format("{} must be a number", object));
  }
  std::vector<double> values(static_cast<size_t>(count));
  if (!values.empty()) check_hdf5(H5Aread(id.get(), H5T_NATIVE_DOUBLE, values.data()), "H5Aread", object);
  return values;
}

std::optional<uint64_t> Hdf5Attributes::unsigned_integer(const std::string& attribute) const {
  if (!has(attribute)) return std::nullopt;
  const auto [object, id, type, space, count] = open_attribute(owner_, attribute, label_);
  check(H5Tget_class(type.get()) == H5T_INTEGER && count == 1, ErrorKind::kData,
        fmt::format("{} must be one integer", object));
  if (H5Tget_sign(type.get()) == H5T_SGN_NONE) {
    uint64_t value = 0;
    check_hdf5(H5Aread(id.get(), H5T_NATIVE_UINT64, &value), "H5Aread", object);
    return value;
  }
  int64_t value = 0;
  check_hdf5(H5Aread(id.get(), H5T_NATIVE_INT64, &value), "H5Aread", object);
  check(value >= 0, ErrorKind::kData, fmt::format("{} is {}, expected 0 or more", object, value));
  return static_cast<uint64_t>(value);
}

namespace {

void write_attribute(hid_t owner, const std::string& label, const std::string& attribute, hid_t stored_type,
                     hid_t memory_type, const Space& space, const void* value) {
  silence_library();
  const std::string object = fmt::format("attribute '{}' of {}", attribute, label);
  const Attribute id(
      check_hdf5(H5Acreate2(owner, attribute.c_str(), stored_type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                 "H5Acreate2", object));
  check_hdf5(H5Awrite(id.get(), memory_type, value), "H5Awrite", object);
}

Space scalar_space() { return Space(check_hdf5(H5Screate(H5S_SCALAR), "H5Screate", "scalar")); }

}  // namespace

void Hdf5Attributes::write_text(const std::string& attribute, std::string_view value) {
  const Type type = variable_string_type();
  const std::string text(value);
  const char* pointer = text.c_str();
  write_attribute(owner_, label_, attribute, type.get(), type.get(), scalar_space(), &pointer);
}

void Hdf5Attributes::write_integer(const std::string& attribute, int64_t value) {
  write_attribute(owner_, label_, attribute, H5T_STD_I64LE, H5T_NATIVE_INT64, scalar_space(), &value);
}

void Hdf5Attributes::write_unsigned(const std::string& attribute, uint64_t value) {
  write_attribute(owner_, label_, attribute, H5T_STD_U64LE, H5T_NATIVE_UINT64, scalar_space(), &value);
}

void Hdf5Attributes::write_number(const std::string& attribute, double value) {
  write_attribute(owner_, label_, attribute, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, scalar_space(), &value);
}

void Hdf5Attributes::write_numbers(const std::string& attribute, std::span<const float> values) {
  const hsize_t count = values.size();
  const Space space(check_hdf5(H5Screate_simple(1, &count, nullptr), "H5Screate_simple", label_));
  write_attribute(owner_, label_, attribute, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, space, values.data());
}

void Hdf5Attributes::write_bool(const std::string& attribute, bool value) {
  const Type type(check_hdf5(H5Tenum_create(H5T_STD_I8LE), "H5Tenum_create", label_));
  for (const int8_t number : {int8_t{0}, int8_t{1}}) {
    check_hdf5(H5Tenum_insert(type.get(), number ? "TRUE" : "FALSE", &number), "H5Tenum_insert", label_);
  }
  const int8_t stored = value;
  write_attribute(owner_, label_, attribute, type.get(), type.get(), scalar_space(), &stored);
}

// ---- data sets

Hdf5Dataset::Hdf5Dataset(int64_t id, std::string label) : id_(id), label_(std::move(label)) {
  const Type type(check_hdf5(H5Dget_type(id), "H5Dget_type", label_));
  const Space space(check_hdf5(H5Dget_space(id), "H5Dget_space", label_));
  info_.type = element_type_of(type.get());
  info_.shape = shape_of(space.get(), label_);
  read_layout(id, label_, info_);
}

void Hdf5Dataset::read_rows(int64_t first, int64_t count, std::span<std::byte> out) const {
  silence_library();
  check(info_.type != ElementType::kOther && info_.type != ElementType::kString, ErrorKind::kData,
        fmt::format("{}: elements are of {}", label_, name(info_.type)));
  ensure(out.size() == rows_size_bytes(info_, count), "the buffer of read_rows has the size of the rows");
  const Selection selection = select_rows(id_.get(), info_, first, count, label_);
  check_hdf5(H5Dread(id_.get(), file_type(info_.type).get(), selection.memory.get(), selection.file.get(),
                     H5P_DEFAULT, out.data()),
             "H5Dread", label_);
}

void Hdf5Dataset::write_rows(int64_t first, int64_t count, std::span<const std::byte> rows) {
  silence_library();
  ensure(rows.size() == rows_size_bytes(info_, count), "the buffer of write_rows has the size of the rows");
  const Selection selection = select_rows(id_.get(), info_, first, count, label_);
  check_hdf5(H5Dwrite(id_.get(), file_type(info_.type).get(), selection.memory.get(), selection.file.get(),
                      H5P_DEFAULT, rows.data()),
             "H5Dwrite", label_);
}

std::vector<int64_t> Hdf5Dataset::read_integers() const {
  silence_library();
  const Type type(check_hdf5(H5Dget_type(id_.get()), "H5Dget_type", label_));
  check(H5Tget_class(type.get()) == H5T_INTEGER, ErrorKind::kData,
        fmt::format("{} must hold integers", label_));
  std::vector<int64_t> values(info_.elements());
  if (values.empty()) return values;
  check_hdf5(H5Dread(id_.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "H5Dread",
             label_);
  return values;
}

std::vector<std::string> Hdf5Dataset::read_strings(int64_t first, int64_t count) const {
  silence_library();
  check(info_.type == ElementType::kString && info_.row_elements() == 1, ErrorKind::kData,
        fmt::format("{} must be a list of strings", label_));
  const Type type(check_hdf5(H5Dget_type(id_.get()), "H5Dget_type", label_));
  const Selection selection = select_rows(id_.get(), info_, first, count, label_);
  return read_string_elements(type.get(), count, selection.memory.get(),
                              [&](hid_t memory_type, void* buffer) {
                                check_hdf5(H5Dread(id_.get(), memory_type, selection.memory.get(),
                                                   selection.file.get(), H5P_DEFAULT, buffer),
                                           "H5Dread", label_);
                              });
}

void Hdf5Dataset::write_strings(std::span<const std::string> strings) {
  silence_library();
  ensure(info_.type == ElementType::kString && info_.elements() == static_cast<int64_t>(strings.size()),
         "write_strings fills a whole list of strings");
  if (strings.empty()) return;
  std::vector<const char*> pointers;
  for (const std::string& text : strings) pointers.push_back(text.c_str());
  check_hdf5(
      H5Dwrite(id_.get(), variable_string_type().get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()),
      "H5Dwrite", label_);
}

// ---- files

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  return {open_existing(path, H5F_ACC_RDONLY), path};
}

Hdf5File Hdf5File::open_for_update(const std::filesystem::path& path) {
  return {open_existing(path, H5F_ACC_RDWR), path};
}

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  silence_library();
  const PropertyList access(check_hdf5(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate", path.string()));
  check_hdf5(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking", path.string());
  return {check_hdf5(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate",
                     path.string()),
          path};
}

bool Hdf5File::has(const std::string& dataset) const {
  silence_library();
  return check_hdf5(H5Lexists(id_.get(), dataset.c_str(), H5P_DEFAULT), "H5Lexists", path_.string()) > 0;
}

Hdf5Dataset Hdf5File::dataset(const std::string& name) const {
  check(has(name), ErrorKind::kData, fmt::format("{} has no data set /{}", path_.string(), name));
  const std::string label = fmt::format("/{} of {}", name, path_.string());
  return {check_hdf5(H5Dopen2(id_.get(), name.c_str(), H5P_DEFAULT), "H5Dopen2", label, ErrorKind::kData),
          label};
}

Hdf5Dataset Hdf5File::create_dataset(const std::string& name, ElementType type,
                                     std::span<const int64_t> shape, std::span<const int64_t> chunk) {
  silence_library();
  const std::string label = fmt::format("/{} of {}", name, path_.string());
  const std::vector<hsize_t> dims(shape.begin(), shape.end()), chunk_dims(chunk.begin(), chunk.end());
  const Space space(shape.empty()
                        ? check_hdf5(H5Screate(H5S_SCALAR), "H5Screate", label)
                        : check_hdf5(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                                     "H5Screate_simple", label));
  const PropertyList list(check_hdf5(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", label));
  if (!chunk.empty()) {
    ensure(chunk.size() == shape.size(), "a chunk has as many dimensions as its data set");
    check_hdf5(H5Pset_chunk(list.get(), static_cast<int>(chunk_dims.size()), chunk_dims.data()),
               "H5Pset_chunk", label);
  }
  return {check_hdf5(H5Dcreate2(id_.get(), name.c_str(), file_type(type).get(), space.get(), H5P_DEFAULT,
                                list.get(), H5P_DEFAULT),
                     "H5Dcreate2", label),
          label};
}

void Hdf5File::close() {
  if (!id_.is_valid()) return;
  // H5Fclose alone says nothing of unwritten data while a data set of the file is still open.
  check_hdf5(H5Fflush(id_.get(), H5F_SCOPE_GLOBAL), "H5Fflush", path_.string());
  check_hdf5(H5Fclose(id_.release()), "H5Fclose", path_.string());
}

}  // namespace tmd
