#include "conversion/gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <set>

#include "runtime/storage/file_problem.hpp"

namespace filigree {
namespace {

static_assert(std::endian::native == std::endian::little);

// Numbers of the format.
constexpr char kFormat[] = "GGUF", kMagic[] = "GGUF", kAlignmentKey[] = "general.alignment";
constexpr std::uint32_t kVersion = 3, kMostDims = 4;
constexpr std::int64_t kDefaultAlignment = 32;
constexpr std::uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;
// Bytes of a value of each type; 0: as its length says.
constexpr std::array<std::int64_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct TensorType {
  std::uint32_t number;
  DType dtype;
};
constexpr std::array<TensorType, 3> kTensorTypes = {
    {{0, DType::f32}, {1, DType::f16}, {30, DType::bf16}}};

std::uint32_t tensor_type(DType dtype) {
  for (const TensorType& type : kTensorTypes)
    if (type.dtype == dtype) return type.number;
  FILIGREE_CHECK(false, "no GGUF type for ", name_of(dtype));
}

std::optional<DType> dtype_of(std::uint32_t number) {
  for (const TensorType& type : kTensorTypes)
    if (type.number == number) return type.dtype;
  return std::nullopt;
}

template <class T>
void append(std::string& bytes, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_text(std::string& bytes, std::string_view text) {
  append(bytes, static_cast<std::uint64_t>(text.size()));
  bytes += text;
}

template <class T>
std::string encoded(std::uint32_t type, const T& value) {
  std::string bytes;
  append(bytes, type);
  append(bytes, value);
  return bytes;
}

std::string encoded_text(std::string_view text) {
  std::string bytes;
  append(bytes, kString);
  append_text(bytes, text);
  return bytes;
}

std::string encoded_list(std::uint32_t type, std::size_t count) {
  std::string bytes = encoded(kArray, type);
  append(bytes, static_cast<std::uint64_t>(count));
  return bytes;
}

template <class T>
std::string encoded_numbers(std::uint32_t type, std::span<const T> values) {
  std::string bytes = encoded_list(type, values.size());
  for (const T value : values) append(bytes, value);
  return bytes;
}

std::int64_t aligned(std::int64_t offset, std::int64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace

void GgufWriter::add(std::string_view key, std::uint32_t value) {
  pairs_.emplace_back(key, encoded(kUint32, value));
}
void GgufWriter::add(std::string_view key, float value) {
  pairs_.emplace_back(key, encoded(kFloat32, value));
}
void GgufWriter::add(std::string_view key, bool value) {
  pairs_.emplace_back(key, encoded(kBool, static_cast<std::uint8_t>(value)));
}
void GgufWriter::add(std::string_view key, std::string_view value) {
  pairs_.emplace_back(key, encoded_text(value));
}
void GgufWriter::add(std::string_view key, std::span<const std::string> values) {
  std::string bytes = encoded_list(kString, values.size());
  for (const std::string& value : values) append_text(bytes, value);
  pairs_.emplace_back(key, std::move(bytes));
}
void GgufWriter::add(std::string_view key, std::span<const float> values) {
  pairs_.emplace_back(key, encoded_numbers(kFloat32, values));
}
void GgufWriter::add(std::string_view key, std::span<const std::int32_t> values) {
  pairs_.emplace_back(key, encoded_numbers(kInt32, values));
}

std::string GgufWriter::header(const std::vector<PromisedTensor>& tensors) const {
  std::string bytes = kMagic;
  append(bytes, kVersion);
  append(bytes, static_cast<std::uint64_t>(tensors.size()));
  append(bytes, static_cast<std::uint64_t>(pairs_.size()));
  for (const auto& [key, value] : pairs_) {
    append_text(bytes, key);
    bytes += value;
  }
  std::int64_t offset = 0;
  for (const PromisedTensor& tensor : tensors) {
    append_text(bytes, tensor.name);
    append(bytes, static_cast<std::uint32_t>(tensor.shape.rank()));
    for (int dim = tensor.shape.rank(); dim-- > 0;)  // innermost first
      append(bytes, static_cast<std::uint64_t>(tensor.shape[dim]));
    append(bytes, tensor_type(tensor.dtype));
    append(bytes, static_cast<std::uint64_t>(offset));
    offset = aligned(offset + tensor.bytes(), kDefaultAlignment);
  }
  const std::int64_t end = aligned(static_cast<std::int64_t>(bytes.size()), kDefaultAlignment);
  bytes.resize(static_cast<std::size_t>(end), '\0');
  return bytes;
}

void GgufWriter::write(const std::filesystem::path& path,
                       const std::vector<PromisedTensor>& tensors) const {
  const std::string front = header(tensors);
  std::int64_t end = static_cast<std::int64_t>(front.size());
  for (const PromisedTensor& tensor : tensors)
    end = aligned(end + tensor.bytes(), kDefaultAlignment);
  PosixFile file = PosixFile::create(path);
  file.allocate(end);  // zeros, which the padding is to be
  file.write_at(0, front.data(), static_cast<std::int64_t>(front.size()));
  std::int64_t offset = static_cast<std::int64_t>(front.size());
  for (const PromisedTensor& tensor : tensors) {
    const Tensor values = tensor.make();
    FILIGREE_CHECK_EQ(values.bytes(), tensor.bytes(), tensor.name);
    file.write_at(offset, values.raw(), values.bytes());
    offset = aligned(offset + values.bytes(), kDefaultAlignment);
  }
  file.sync();
  file.close();
}

void GgufWriter::verify(const std::filesystem::path& path,
                        const std::vector<PromisedTensor>& tensors) const {
  const GgufReader reader(path);
  std::vector<std::string> names;
  for (const PromisedTensor& tensor : tensors) names.push_back(tensor.name);
  if (reader.pairs() != pairs_ || reader.names() != names)
    throw UserError(str("verification failed: the header of ", path.string(),
                        " is not what was to be written; ", kDistrust));
  for (const PromisedTensor& tensor : tensors)
    verify_tensor(reader.read(tensor.name), tensor, path.string());
}

namespace {

// Takes a header's values one after the other; none is longer than what is left of the file.
class HeaderCursor {
 public:
  HeaderCursor(const PosixFile& file, const FileProblem& problem)
      : file_(file), problem_(problem), size_(file.size()) {}

  std::int64_t offset() const { return offset_; }

  std::string take(std::uint64_t bytes, std::string_view what) {
    require_left(bytes, 1, what);
    std::string taken(static_cast<std::size_t>(bytes), '\0');
    std::size_t done = 0;
    while (done < taken.size()) {
      if (buffered_ == buffer_.size()) refill();
      const std::size_t part = std::min(taken.size() - done, buffer_.size() - buffered_);
      std::memcpy(taken.data() + done, buffer_.data() + buffered_, part);
      done += part;
      buffered_ += part;
    }
    offset_ += static_cast<std::int64_t>(bytes);
    return taken;
  }
  template <class T>
  T number(std::string_view what) {
    T value{};
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }
  std::string text(std::string_view what) { return take(number<std::uint64_t>(what), what); }
  // How many of something that takes at least `least_bytes` each.
  std::uint64_t count(std::int64_t least_bytes, std::string_view what) {
    const auto value = number<std::uint64_t>(what);
    require_left(value, least_bytes, what);
    return value;
  }

 private:
  void require_left(std::uint64_t count, std::int64_t bytes, std::string_view what) const {
    problem_.require(count <= static_cast<std::uint64_t>((size_ - offset_) / bytes), what, ": ",
                     count, " of at least ", bytes, bytes == 1 ? " byte" : " bytes",
                     " do not fit into the ", size_ - offset_, " bytes that are left of the file");
  }
  void refill() {
    constexpr std::int64_t kPiece = 1 << 20;
    buffer_.resize(static_cast<std::size_t>(std::min(kPiece, size_ - filled_)));
    file_.read_at(filled_, buffer_.data(), static_cast<std::int64_t>(buffer_.size()));
    filled_ += static_cast<std::int64_t>(buffer_.size());
    buffered_ = 0;
  }

  const PosixFile& file_;
  const FileProblem& problem_;
  std::int64_t size_, offset_ = 0, filled_ = 0;
  std::string buffer_;
  std::size_t buffered_ = 0;
};

// The type of a value, or of those of a list.
std::uint32_t take_type(HeaderCursor& header, const std::string& key, bool of_list,
                        const FileProblem& problem) {
  const auto type = header.number<std::uint32_t>("a type");
  problem.require(type < kValueBytes.size() && !(of_list && type == kArray), "the value of '", key,
                  "' has type ", type, "; types are 0 to 12, and lists do not hold lists");
  return type;
}

// A value as it stands in the file.
std::string take_value(HeaderCursor& header, std::uint32_t type, const std::string& key) {
  const std::string what = str("the value of '", key, "'");
  if (type != kString) return header.take(static_cast<std::uint64_t>(kValueBytes[type]), what);
  std::string bytes;
  append_text(bytes, header.text(what));
  return bytes;
}

std::pair<std::string, std::string> take_pair(HeaderCursor& header, const FileProblem& problem) {
  std::string key = header.text("a key");
  problem.require_name(key, "a key");
  const std::uint32_t type = take_type(header, key, false, problem);
  if (type != kArray) {
    std::string bytes;
    append(bytes, type);
    return {key, bytes + take_value(header, type, key)};
  }
  const std::uint32_t element = take_type(header, key, true, problem);
  const bool fixed = kValueBytes[element] > 0;
  const std::int64_t least = fixed ? kValueBytes[element] : std::int64_t{sizeof(std::uint64_t)};
  const std::uint64_t count = header.count(least, str("the list of '", key, "'"));
  std::string bytes = encoded_list(element, count);
  if (fixed) return {key, bytes + header.take(count * static_cast<std::uint64_t>(least), key)};
  for (std::uint64_t i = 0; i < count; ++i) bytes += take_value(header, element, key);
  return {key, bytes};
}

std::int64_t alignment_of(const GgufPairs& pairs, const FileProblem& problem) {
  for (const auto& [key, value] : pairs) {
    if (key != kAlignmentKey) continue;
    std::uint32_t alignment = 0;
    const bool is_number = value.size() == 2 * sizeof(alignment);
    if (is_number) std::memcpy(&alignment, value.data() + sizeof(alignment), sizeof(alignment));
    problem.require(is_number && alignment >= 8 && std::has_single_bit(alignment), kAlignmentKey,
                    " = ", alignment, ": must be a power of two from 8 on");
    return alignment;
  }
  return kDefaultAlignment;
}

Shape take_shape(HeaderCursor& header, const std::string& name, const FileProblem& problem) {
  const auto rank = header.number<std::uint32_t>("a number of dims");
  problem.require(rank <= kMostDims, "tensor '", name, "' has ", rank, " dims, at most ", kMostDims,
                  " are allowed");
  std::vector<std::int64_t> sizes(rank);
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 60;  // so that ends can be computed
  std::int64_t bytes = size_of(DType::f32);
  for (std::int64_t& size : sizes) {
    size = header.number<std::int64_t>("a size");
    problem.require(size > 0 && !__builtin_mul_overflow(bytes, size, &bytes) && bytes <= kMostBytes,
                    "tensor '", name, "' has a size of ", size, ", which cannot be");
  }
  std::reverse(sizes.begin(), sizes.end());
  return Shape(std::span<const std::int64_t>(sizes));
}

GgufEntry take_entry(HeaderCursor& header, const FileProblem& problem) {
  GgufEntry entry;
  entry.name = header.text("a tensor's name");
  problem.require_name(entry.name, "a tensor");
  entry.shape = take_shape(header, entry.name, problem);
  const auto type = header.number<std::uint32_t>("a type");
  const auto dtype = dtype_of(type);
  problem.require(dtype.has_value(), "tensor '", entry.name, "' has type ", type,
                  ", which is not read; 0 (F32), 1 (F16) and 30 (BF16) are");
  entry.dtype = *dtype;
  entry.offset = header.number<std::int64_t>("an offset");
  return entry;
}

}  // namespace

bool is_gguf(const std::filesystem::path& file) {
  std::string begin(4, '\0');
  std::ifstream(file, std::ios::binary).read(begin.data(), std::ssize(begin));
  return begin == kMagic;
}

GgufReader::GgufReader(const std::filesystem::path& path)
    : file_(PosixFile::open_for_reading(path)) {
  const FileProblem problem(kFormat, path);
  HeaderCursor header(file_, problem);
  problem.require(header.take(4, "the first bytes") == kMagic, "it does not begin with ", kMagic);
  const auto version = header.number<std::uint32_t>("the version");
  problem.require(version == kVersion, "it is of version ", version, "; ", kVersion, " is read");
  constexpr std::int64_t kLeastTensorBytes = 8 + 4 + 4 + 8, kLeastPairBytes = 8 + 4 + 1;
  const std::uint64_t tensors = header.count(kLeastTensorBytes, "the tensors");
  const std::uint64_t pairs = header.count(kLeastPairBytes, "the keys");
  std::set<std::string> seen;
  for (std::uint64_t i = 0; i < pairs; ++i) {
    pairs_.push_back(take_pair(header, problem));
    problem.require(seen.insert(pairs_.back().first).second, "key '", pairs_.back().first,
                    "' is there twice");
  }
  const std::int64_t alignment = alignment_of(pairs_, problem);
  seen.clear();
  std::int64_t next = 0;  // each tensor begins where the one before it ends, aligned
  for (std::uint64_t i = 0; i < tensors; ++i) {
    GgufEntry entry = take_entry(header, problem);
    problem.require(seen.insert(entry.name).second, "tensor '", entry.name, "' is there twice");
    problem.require(
        entry.offset == next, "tensor '", entry.name, "' begins at byte ", entry.offset,
        " of the values, where ", next,
        entry.offset < next ? " are taken by others: they overlap" : " is next: there is a gap");
    problem.require(entry.bytes() <= file_.size() - next, "tensor '", entry.name, "' of ",
                    entry.bytes(), " bytes ends after the file, which has ", file_.size());
    next = aligned(next + entry.bytes(), alignment);
    entries_.push_back(std::move(entry));
  }
  const std::int64_t data = aligned(header.offset(), alignment);
  for (GgufEntry& entry : entries_) {
    entry.offset += data;
    problem.require(entry.offset + entry.bytes() <= file_.size(), "tensor '", entry.name,
                    "' ends at byte ", entry.offset + entry.bytes(), ", the file at ",
                    file_.size());
  }
}

std::vector<std::string> GgufReader::names() const {
  std::vector<std::string> names;
  for (const GgufEntry& entry : entries_) names.push_back(entry.name);
  return names;
}

Tensor GgufReader::read(const std::string& name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const GgufEntry& entry) { return entry.name == name; });
  if (found == entries_.end())
    FileProblem(kFormat, file_.path()).fail("there is no tensor '", name, "'");
  const Tensor values = Tensor::empty(found->shape, found->dtype);
  file_.read_at(found->offset, values.raw(), values.bytes());
  return values;
}

}  // namespace filigree
