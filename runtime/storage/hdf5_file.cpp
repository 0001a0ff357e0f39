#include "runtime/storage/hdf5_file.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <functional>
#include <mutex>
#include <numeric>
#include <utility>

#include "runtime/core/error.hpp"

#ifdef __SANITIZE_ADDRESS__
// Without its exit handler the library never frees its tables.
extern "C" __attribute__((weak)) const char* __lsan_default_suppressions() {
  return "leak:libhdf5\n";
}
#endif

namespace filigree {
namespace {

struct TypeRow {
  Hdf5Type type;
  std::string_view name;
  std::int64_t size;
};
constexpr std::array<TypeRow, 8> kTypes{{{Hdf5Type::f64, "f64", 8},
                                         {Hdf5Type::f32, "f32", 4},
                                         {Hdf5Type::i64, "i64", 8},
                                         {Hdf5Type::i32, "i32", 4},
                                         {Hdf5Type::u64, "u64", 8},
                                         {Hdf5Type::u32, "u32", 4},
                                         {Hdf5Type::u16, "u16", 2},
                                         {Hdf5Type::u8, "u8", 1}}};

// The library's type ids exist only once it is initialised, hence no table.
hid_t library_type(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::f64:
      return H5T_IEEE_F64LE;
    case Hdf5Type::f32:
      return H5T_IEEE_F32LE;
    case Hdf5Type::i64:
      return H5T_STD_I64LE;
    case Hdf5Type::i32:
      return H5T_STD_I32LE;
    case Hdf5Type::u64:
      return H5T_STD_U64LE;
    case Hdf5Type::u32:
      return H5T_STD_U32LE;
    case Hdf5Type::u16:
      return H5T_STD_U16LE;
    case Hdf5Type::u8:
      return H5T_STD_U8LE;
  }
  FILIGREE_CHECK(false, "HDF5 type ", static_cast<int>(type));
}

// Held during every use of libhdf5. One lock even where the library has its own, because a
// distribution's parallel flavour has none.
class LibraryLock {
 public:
  LibraryLock() : lock_(mutex()) {
    // First of all calls: the library's exit handler crashes when a file could not be closed on a
    // full disk.
    static const herr_t without_exit_handler = H5dont_atexit();
    static_cast<void>(without_exit_handler);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // per thread; errors become exceptions instead
  }

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  std::lock_guard<std::mutex> lock_;
};

herr_t keep_first_description(unsigned, const H5E_error2_t* entry, void* text) {
  auto& description = *static_cast<std::string*>(text);
  if (description.empty() && entry->desc != nullptr) description = entry->desc;
  return 0;
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_description, &reason);
  H5Eclear2(H5E_DEFAULT);
  std::replace(reason.begin(), reason.end(), '\n', ' ');  // the library's own texts hold some
  throw UserError(str("HDF5 file ", path.string(), ": cannot ", what, ": ",
                      reason.empty() ? "it has another type or size" : reason));
}

// Owns an id of the library.
class Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) closer_(id_);
  }
  hid_t get() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_;
  Closer closer_;
};

Handle checked(hid_t id, Handle::Closer closer, const std::filesystem::path& path,
               const std::string& what) {
  if (id < 0) fail(path, what);
  return {id, closer};
}

// Access properties of every file: exact version bounds, alignment, no file locks (they fail on
// network file systems without a lock service, and files here are written once under a private
// name).
Handle access_properties(const std::filesystem::path& path) {
  Handle properties = checked(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path, "set access properties");
  herr_t status = H5Pset_libver_bounds(properties.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  if (status >= 0) status = H5Pset_alignment(properties.get(), 4096, 4096);
  if (status >= 0) status = H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
  if (status >= 0) status = H5Pset_file_locking(properties.get(), false, true);
#endif
  if (status < 0) fail(path, "set access properties");
  return properties;
}

Handle make_dataspace(const std::vector<std::int64_t>& shape, const std::filesystem::path& path) {
  if (shape.empty()) return checked(H5Screate(H5S_SCALAR), H5Sclose, path, "make a dataspace");
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return checked(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose,
                 path, "make a dataspace");
}

std::vector<std::int64_t> shape_of(hid_t space, const std::filesystem::path& path) {
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0) fail(path, "read a dataspace");
  std::vector<hsize_t> sizes(static_cast<std::size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  return {sizes.begin(), sizes.end()};
}

Handle fixed_text_type(std::size_t bytes, const std::filesystem::path& path) {
  Handle type = checked(H5Tcopy(H5T_C_S1), H5Tclose, path, "make a text type");
  if (H5Tset_size(type.get(), bytes) < 0 || H5Tset_strpad(type.get(), H5T_STR_NULLPAD) < 0 ||
      H5Tset_cset(type.get(), H5T_CSET_UTF8) < 0) {
    fail(path, "make a text type");
  }
  return type;
}

}  // namespace

LibraryVersion hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return {"HDF5", str(H5_VERS_MAJOR, ".", H5_VERS_MINOR, ".", H5_VERS_RELEASE),
          str(major, ".", minor, ".", release)};
}

std::int64_t size_of(Hdf5Type type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.size;
  }
  FILIGREE_CHECK(false, "HDF5 type ", static_cast<int>(type));
}

std::string_view name_of(Hdf5Type type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.name;
  }
  FILIGREE_CHECK(false, "HDF5 type ", static_cast<int>(type));
}

struct Hdf5File::State {
  std::filesystem::path path;
  hid_t file = -1;

  ~State() {
    if (file < 0) return;
    const LibraryLock lock;
    H5Fclose(file);
  }
  Handle object(const std::string& name) const {
    FILIGREE_CHECK(file >= 0, "HDF5 file ", path.string(), " is closed");
    return checked(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose, path,
                   str("open '", name, "'"));
  }
  Handle attribute(hid_t object, const std::string& owner, const std::string& name) const {
    return checked(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, path,
                   str("open attribute '", name, "' of '", owner, "'"));
  }
  Hdf5Dataset describe(hid_t data, const std::string& name) const;
  // Of shape {}: a scalar.
  void write(const std::string& object_name, const std::string& name,
             const std::vector<std::int64_t>& shape, hid_t type, hid_t memory_type,
             const void* value) const;
};

Hdf5File::Hdf5File(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  const LibraryLock lock;
  const Handle access = access_properties(path);
  const Handle root = checked(H5Pcreate(H5P_FILE_CREATE), H5Pclose, path, "set file properties");
  if (H5Pset_obj_track_times(root.get(), false) < 0) fail(path, "set file properties");
  state->file = checked(H5Fcreate(path.c_str(), H5F_ACC_EXCL, root.get(), access.get()), H5Fclose,
                        path, "create it")
                    .release();
  return Hdf5File(std::move(state));
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  const LibraryLock lock;
  const Handle access = access_properties(path);
  state->file =
      checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, path, "open it")
          .release();
  return Hdf5File(std::move(state));
}

void Hdf5File::close() {
  if (state_->file < 0) return;
  const LibraryLock lock;
  if (H5Fclose(std::exchange(state_->file, -1)) < 0) fail(state_->path, "close it");
}

const std::filesystem::path& Hdf5File::path() const { return state_->path; }

Hdf5Dataset Hdf5File::create_dataset(const std::string& name, Hdf5Type type,
                                     const std::vector<std::int64_t>& shape) {
  const LibraryLock lock;
  FILIGREE_CHECK(state_->file >= 0, "HDF5 file ", state_->path.string(), " is closed");
  const std::filesystem::path& path = state_->path;
  const Handle space = make_dataspace(shape, path);
  const Handle links = checked(H5Pcreate(H5P_LINK_CREATE), H5Pclose, path, "set link properties");
  const Handle layout =
      checked(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, path, "set dataset properties");
  if (H5Pset_create_intermediate_group(links.get(), 1) < 0 ||
      H5Pset_layout(layout.get(), H5D_CONTIGUOUS) < 0 ||
      H5Pset_alloc_time(layout.get(), H5D_ALLOC_TIME_EARLY) < 0 ||
      H5Pset_fill_time(layout.get(), H5D_FILL_TIME_NEVER) < 0 ||
      H5Pset_obj_track_times(layout.get(), false) < 0) {
    fail(path, "set dataset properties");
  }
  const Handle created = checked(H5Dcreate2(state_->file, name.c_str(), library_type(type),
                                            space.get(), links.get(), layout.get(), H5P_DEFAULT),
                                 H5Dclose, path, str("create dataset '", name, "'"));
  return state_->describe(created.get(), name);
}

bool Hdf5File::has_dataset(const std::string& name) const {
  const LibraryLock lock;
  FILIGREE_CHECK(state_->file >= 0, "HDF5 file ", state_->path.string(), " is closed");
  // The library asks for every group on the way to exist.
  for (std::size_t end = name.find('/', 1);; end = name.find('/', end + 1)) {
    const std::string prefix = name.substr(0, end);
    if (H5Lexists(state_->file, prefix.c_str(), H5P_DEFAULT) <= 0) return false;
    if (end == std::string::npos) break;
  }
  return H5Iget_type(state_->object(name).get()) == H5I_DATASET;
}

Hdf5Dataset Hdf5File::dataset(const std::string& name) const {
  const LibraryLock lock;
  FILIGREE_CHECK(state_->file >= 0, "HDF5 file ", state_->path.string(), " is closed");
  const Handle data = checked(H5Dopen2(state_->file, name.c_str(), H5P_DEFAULT), H5Dclose,
                              state_->path, str("open dataset '", name, "'"));
  return state_->describe(data.get(), name);
}

Hdf5Dataset Hdf5File::State::describe(hid_t data, const std::string& name) const {
  const Handle space = checked(H5Dget_space(data), H5Sclose, path, "read a dataspace");
  const Handle stored = checked(H5Dget_type(data), H5Tclose, path, "read a type");
  const Handle layout = checked(H5Dget_create_plist(data), H5Pclose, path, "read a layout");

  Hdf5Dataset result;
  result.shape = shape_of(space.get(), path);
  bool known = false;
  for (const TypeRow& row : kTypes) {
    if (H5Tequal(stored.get(), library_type(row.type)) <= 0) continue;
    result.type = row.type;
    known = true;
  }
  const auto refuse = [&](const std::string& what) {
    throw UserError(str("HDF5 file ", path.string(), ": dataset '", name, "' ", what));
  };
  if (!known) refuse("has an element type that is not a plain little-endian number");
  if (H5Pget_layout(layout.get()) != H5D_CONTIGUOUS || H5Pget_nfilters(layout.get()) != 0 ||
      H5Pget_external_count(layout.get()) != 0) {
    refuse("is chunked, compressed or external; contiguous storage is needed (h5repack -l CONTI)");
  }
  result.bytes = std::accumulate(result.shape.begin(), result.shape.end(), size_of(result.type),
                                 std::multiplies<>());
  if (result.bytes == 0) return result;
  const haddr_t offset = H5Dget_offset(data);
  hsize_t file_size = 0;
  if (offset == HADDR_UNDEF) refuse("has no storage");
  if (H5Fget_filesize(file, &file_size) < 0) fail(path, "read its size");
  if (offset + static_cast<haddr_t>(result.bytes) > file_size) refuse("ends after the file's end");
  result.file_offset = static_cast<std::int64_t>(offset);
  return result;
}

void Hdf5File::State::write(const std::string& object_name, const std::string& name,
                            const std::vector<std::int64_t>& shape, hid_t type, hid_t memory_type,
                            const void* value) const {
  const Handle owner = object(object_name);
  const Handle space = make_dataspace(shape, path);
  const std::string what = str("write attribute '", name, "' of '", object_name, "'");
  const Handle created =
      checked(H5Acreate2(owner.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
              H5Aclose, path, what);
  if (value != nullptr && H5Awrite(created.get(), memory_type, value) < 0) fail(path, what);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name,
                               std::int64_t value) {
  const LibraryLock lock;
  state_->write(object, name, {}, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name,
                               const std::string& value) {
  const LibraryLock lock;
  // A text type of the library holds at least one byte; the padding is dropped on reading.
  const Handle type = fixed_text_type(std::max<std::size_t>(1, value.size()), state_->path);
  state_->write(object, name, {}, type.get(), type.get(), value.c_str());
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name,
                               const std::vector<std::int64_t>& values) {
  const LibraryLock lock;
  // Without elements there is nothing to write, and the library wants no null pointer.
  state_->write(object, name, {static_cast<std::int64_t>(values.size())}, H5T_STD_I64LE,
                H5T_NATIVE_INT64, values.empty() ? nullptr : values.data());
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  const LibraryLock lock;
  return H5Aexists(state_->object(object).get(), name.c_str()) > 0;
}

std::int64_t Hdf5File::integer_attribute(const std::string& object, const std::string& name) const {
  const LibraryLock lock;
  const Handle owner = state_->object(object);
  const Handle attribute = state_->attribute(owner.get(), object, name);
  const Handle type = checked(H5Aget_type(attribute.get()), H5Tclose, state_->path, "read a type");
  const std::string what = str("read attribute '", name, "' of '", object, "' as an integer");
  std::int64_t value = 0;
  if (H5Tget_class(type.get()) != H5T_INTEGER || H5Aget_storage_size(attribute.get()) > 8 ||
      H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
    fail(state_->path, what);
  }
  return value;
}

std::string Hdf5File::text_attribute(const std::string& object, const std::string& name) const {
  const LibraryLock lock;
  const Handle owner = state_->object(object);
  const Handle attribute = state_->attribute(owner.get(), object, name);
  const Handle type = checked(H5Aget_type(attribute.get()), H5Tclose, state_->path, "read a type");
  const std::string what = str("read attribute '", name, "' of '", object, "' as text");
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0) {
    fail(state_->path, what);
  }
  std::string value(H5Tget_size(type.get()), '\0');
  if (value.size() != H5Aget_storage_size(attribute.get()) ||
      H5Aread(attribute.get(), type.get(), value.data()) < 0) {
    fail(state_->path, what);
  }
  value.resize(value.find_last_not_of('\0') + 1);
  return value;
}

}  // namespace filigree
