#include "conversion/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "runtime/storage/untrusted_json.hpp"

namespace filigree {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little);

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr std::int64_t kAlignment = 8;
constexpr char kFormat[] = "safetensors", kMetadata[] = "__metadata__";

struct Type {
  std::string_view name;
  std::int64_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array<Type, 15> kTypes = {{{"F64", 8, DType::f64},
                                          {"F32", 4, DType::f32},
                                          {"BF16", 2, DType::bf16},
                                          {"F16", 2, DType::f16},
                                          {"I64", 8, DType::i64},
                                          {"I32", 4, DType::i32},
                                          {"U16", 2, DType::u16},
                                          {"U8", 1, DType::u8},
                                          {"U64", 8, {}},
                                          {"U32", 4, {}},
                                          {"I16", 2, {}},
                                          {"I8", 1, {}},
                                          {"BOOL", 1, {}},
                                          {"F8_E4M3", 1, {}},
                                          {"F8_E5M2", 1, {}}}};

const Type* find_type(std::string_view name) {
  const auto* const found = std::find_if(kTypes.begin(), kTypes.end(),
                                         [&](const Type& type) { return type.name == name; });
  return found == kTypes.end() ? nullptr : found;
}

std::string_view type_name(DType dtype) {
  return std::find_if(kTypes.begin(), kTypes.end(),
                      [&](const Type& type) { return type.dtype == dtype; })
      ->name;
}

// JSON whose objects have no key twice; nlohmann's parser would keep the last.
json parse_header(const std::string& text, const FileProblem& problem) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    require_shallow(depth, problem);
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event != json::parse_event_t::key) return true;
    const auto key = value.get<std::string>();
    problem.require_name(key, "its header");
    problem.require(keys.back().insert(key).second, "its header names '", key, "' twice");
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    problem.fail("its header is no JSON (", error.what(), ")");
  }
}

std::string read_header(const PosixFile& file, const FileProblem& problem) {
  const std::int64_t size = file.size();
  problem.require(size >= kLengthBytes, "it has ", size, " bytes, fewer than a header's length");
  std::uint64_t length = 0;
  file.read_at(0, &length, kLengthBytes);
  problem.require(
      length <= static_cast<std::uint64_t>(std::min(kLargestHeader, size - kLengthBytes)),
      "its header is said to have ", length, " bytes, the file has ", size - kLengthBytes,
      " and a header at most ", kLargestHeader, "; it is cut short or no safetensors file");
  std::string text(length, '\0');
  file.read_at(kLengthBytes, text.data(), static_cast<std::int64_t>(length));
  problem.require(!text.empty() && text.front() == '{', "its header does not begin with '{'");
  return text;
}

std::int64_t whole_number(const json& value) {
  if (!value.is_number_unsigned()) return -1;
  const auto number = value.get<std::uint64_t>();
  return number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())
             ? -1
             : static_cast<std::int64_t>(number);
}

std::vector<std::int64_t> whole_numbers(const json& entry, const char* key, const std::string& name,
                                        const FileProblem& problem) {
  const auto found = entry.find(key);
  problem.require(found != entry.end() && found->is_array(), "tensor '", name, "' has no list '",
                  key, "'");
  std::vector<std::int64_t> numbers;
  for (const json& value : *found) {
    numbers.push_back(whole_number(value));
    problem.require(numbers.back() >= 0, "tensor '", name, "': '", key, "' holds ", value.dump(),
                    ", which is no size");
  }
  return numbers;
}

// Product of sizes and element bytes; -1 when it does not fit 63 bits.
std::int64_t bytes_of(const std::vector<std::int64_t>& sizes, std::int64_t element) {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  std::int64_t bytes = element;
  for (const std::int64_t size : sizes)
    if (__builtin_mul_overflow(bytes, size, &bytes)) return -1;
  return bytes;
}

std::map<std::string, std::string> parse_metadata(const json& object, const FileProblem& problem) {
  std::map<std::string, std::string> metadata;
  problem.require(object.is_object(), "its ", kMetadata, " is no object");
  for (const auto& [key, value] : object.items()) {
    problem.require(value.is_string(), "its ", kMetadata, " holds '", key, "', which is no text");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path)
    : file_(PosixFile::open_for_reading(path)) {
  const FileProblem problem(kFormat, path);
  const std::string text = read_header(file_, problem);
  const json header = parse_header(text, problem);
  const std::int64_t data = kLengthBytes + static_cast<std::int64_t>(text.size());
  const std::int64_t data_bytes = file_.size() - data;
  std::vector<std::pair<std::int64_t, std::string>> order;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadata) {
      metadata_ = parse_metadata(value, problem);
      continue;
    }
    problem.require(value.is_object(), "tensor '", name, "' is described by no object");
    const auto type_text = value.find("dtype");
    problem.require(type_text != value.end() && type_text->is_string(), "tensor '", name,
                    "' has no dtype");
    const Type* const type = find_type(type_text->get<std::string>());
    problem.require(type != nullptr, "tensor '", name, "' has the unknown dtype ",
                    type_text->dump());
    const auto sizes = whole_numbers(value, "shape", name, problem);
    problem.require(sizes.size() <= Shape::kMaxRank, "tensor '", name, "' has ", sizes.size(),
                    " dims, at most ", Shape::kMaxRank, " are read");
    const auto offsets = whole_numbers(value, "data_offsets", name, problem);
    problem.require(offsets.size() == 2 && offsets[0] <= offsets[1] && offsets[1] <= data_bytes,
                    "tensor '", name, "': data_offsets ", value.at("data_offsets").dump(),
                    " are no range of the ", data_bytes, " bytes that the file holds");
    const std::int64_t bytes = bytes_of(sizes, type->bytes);
    problem.require(bytes == offsets[1] - offsets[0], "tensor '", name, "': ", type->name,
                    " of shape ", value.at("shape").dump(), " does not fill data_offsets ",
                    value.at("data_offsets").dump());
    entries_[name] = {std::string(type->name), Shape(std::span(sizes)), data + offsets[0], bytes};
    order.emplace_back(data + offsets[0], name);
  }
  // An empty tensor may share its place with another: by place, then by size.
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.first, entries_[a.second].bytes) <
           std::pair(b.first, entries_[b.second].bytes);
  });
  std::int64_t end = data;
  for (const auto& [offset, name] : order) {
    problem.require(
        offset == end, "tensor '", name, "' begins at byte ", offset - data,
        " of the values, where ", end - data,
        offset < end ? " are taken by others: they overlap" : " is next: there is a gap");
    end += entries_[name].bytes;
  }
  problem.require(end == file_.size(), "its tensors end ", file_.size() - end,
                  " bytes before the file does");
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SafetensorsReader::Entry& SafetensorsReader::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end()) return found->second;
  const std::string nearest = nearest_name(name, names());
  FileProblem(kFormat, path())
      .fail("there is no tensor '", name, "'",
            nearest.empty() ? "" : "; the nearest is '" + nearest + "'");
}

DType SafetensorsReader::dtype(const std::string& name) const {
  const Entry& found = entry(name);
  const Type* const type = find_type(found.type);
  if (!type->dtype)
    FileProblem(kFormat, path())
        .fail("tensor '", name, "' is ", found.type,
              ", which is not supported; F64, F32, BF16 and F16 are");
  return *type->dtype;
}

Tensor SafetensorsReader::read(const std::string& name) const {
  const Entry& found = entry(name);
  const Tensor values = Tensor::empty(found.shape, dtype(name));
  file_.read_at(found.offset, values.raw(), found.bytes);
  return values;
}

Tensor SafetensorsReader::read_rows(const std::string& name, std::int64_t begin,
                                    std::int64_t end) const {
  const Entry& found = entry(name);
  FILIGREE_CHECK(found.shape.rank() > 0 && 0 <= begin && begin <= end && end <= found.shape[0],
                 "rows [", begin, ", ", end, ") of ", found.shape);
  const Tensor values = Tensor::empty(found.shape.with(0, end - begin), dtype(name));
  if (values.numel() > 0)
    file_.read_at(found.offset + begin * (found.bytes / found.shape[0]), values.raw(),
                  values.bytes());
  return values;
}

namespace {

std::string header_of(const std::vector<SafetensorsSlot>& slots,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::int64_t begin = 0;
  for (const SafetensorsSlot& slot : slots) {
    FILIGREE_CHECK(!header.contains(slot.name), "two tensors are named ", slot.name);
    const std::int64_t end = begin + slot.shape.numel() * size_of(slot.dtype);
    header[slot.name] = {{"dtype", type_name(slot.dtype)},
                         {"shape", slot.shape.sizes()},
                         {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.empty() ? "{}" : header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<SafetensorsSlot> slots,
                                     const std::map<std::string, std::string>& metadata)
    : file_(PosixFile::create(path)), slots_(std::move(slots)) {
  const std::string header = header_of(slots_, metadata);
  offset_ = kLengthBytes + static_cast<std::int64_t>(header.size());
  std::int64_t total = offset_;
  for (const SafetensorsSlot& slot : slots_) total += slot.shape.numel() * size_of(slot.dtype);
  file_.allocate(total);
  const auto length = static_cast<std::uint64_t>(header.size());
  file_.write_at(0, &length, kLengthBytes);
  file_.write_at(kLengthBytes, header.data(), static_cast<std::int64_t>(header.size()));
}

void SafetensorsWriter::write(const Tensor& values) {
  FILIGREE_CHECK(next_ < slots_.size(), "all ", slots_.size(), " tensors are written");
  const SafetensorsSlot& slot = slots_[next_++];
  FILIGREE_CHECK(values.dtype() == slot.dtype && values.shape() == slot.shape, slot.name, " is ",
                 name_of(slot.dtype), ' ', slot.shape, ", got ", name_of(values.dtype()), ' ',
                 values.shape());
  file_.write_at(offset_, values.raw(), values.bytes());
  offset_ += values.bytes();
}

void SafetensorsWriter::close() {
  FILIGREE_CHECK_EQ(next_, slots_.size(), "tensors written");
  file_.sync();
  file_.close();
}

}  // namespace filigree
