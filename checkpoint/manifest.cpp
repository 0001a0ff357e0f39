#include "checkpoint/manifest.hpp"

#include <cmath>

#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

using nlohmann::json;

// The last line of the file; the hash covers every byte before it.
constexpr char kTailBegin[] = ",\n\"self_hash\": \"";
constexpr char kTailEnd[] = "\"\n}\n";
constexpr std::size_t kHashDigits = 32;

// JSON has no infinities: nlohmann-json would write null, and resuming would fail instead of
// saving.
void check_finite(const json& value, const std::string& path) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    throw UserError(str(path, " is ", value.get<double>(),
                        "; a checkpoint's state and config hold finite numbers only"));
  }
  if (!value.is_structured()) return;
  for (const auto& [key, item] : value.items()) check_finite(item, path + "." + key);
}

json to_json(const Shape& shape) {
  return std::vector<std::int64_t>(shape.sizes().begin(), shape.sizes().end());
}

json to_json(const SavedTensor& tensor) {
  json slices = json::array();
  for (const SavedSlice& slice : tensor.slices) {
    slices.push_back({{"file", slice.file},
                      {"dataset", slice.dataset},
                      {"offset", slice.region.offset()},
                      {"shape", to_json(slice.region.shape())},
                      {"file_offset", slice.file_offset},
                      {"xxh3_128", slice.hash}});
    if (slice.part_hashes.empty()) continue;
    slices.back()["part_rows"] = slice.part_rows;
    slices.back()["part_xxh3_128"] = slice.part_hashes;
  }
  return {{"dtype", std::string(name_of(tensor.dtype))},
          {"global_shape", to_json(tensor.global_shape)},
          {"slices", std::move(slices)}};
}

json to_json(const SavedFile& file) {
  return {{"name", file.name},
          {"bytes", file.bytes},
          {"xxh3_128", file.hash},
          {"structure_xxh3_128", file.structure_hash}};
}

json to_json(const MeshShape& mesh) {
  return {{"pipeline", mesh.pipeline},
          {"data", mesh.data},
          {"context", mesh.context},
          {"tensor", mesh.tensor}};
}

// Everything below throws UserError or json::exception; parse_manifest says where.
Shape shape_from(const json& sizes, DType dtype) {
  const auto values = sizes.get<std::vector<std::int64_t>>();
  if (values.size() > Shape::kMaxRank) throw UserError(str("a shape has ", values.size(), " dims"));
  std::int64_t bytes = size_of(dtype);
  for (const std::int64_t value : values) {
    if (value < 0 || __builtin_mul_overflow(bytes, value, &bytes)) {
      throw UserError(str("shape ", sizes.dump(), " is out of range"));
    }
  }
  return Shape(std::span<const std::int64_t>(values));
}

void read_parts(const json& value, SavedSlice& slice) {
  if (!value.contains("part_rows")) return;
  value.at("part_rows").get_to(slice.part_rows);
  value.at("part_xxh3_128").get_to(slice.part_hashes);
  const std::int64_t rows = slice.region.rank == 0 ? 1 : slice.region.extent(0);
  if (slice.part_rows < 1 ||
      std::ssize(slice.part_hashes) != (rows + slice.part_rows - 1) / slice.part_rows) {
    throw UserError(str("slice of dataset '", slice.dataset, "' has ", slice.part_hashes.size(),
                        " part hashes for ", rows, " rows in parts of ", slice.part_rows));
  }
}

SavedSlice slice_from(const json& value, const SavedTensor& tensor,
                      const std::vector<SavedFile>& files) {
  SavedSlice slice;
  slice.file = value.at("file").get<std::size_t>();
  slice.dataset = value.at("dataset").get<std::string>();
  slice.file_offset = value.at("file_offset").get<std::int64_t>();
  slice.hash = value.at("xxh3_128").get<std::string>();
  const Shape shape = shape_from(value.at("shape"), tensor.dtype);
  const auto offset = value.at("offset").get<std::vector<std::int64_t>>();
  if (static_cast<int>(offset.size()) != shape.rank() ||
      shape.rank() != tensor.global_shape.rank()) {
    throw UserError(str("slice ", value.dump(), " has another number of dims than its tensor"));
  }
  for (int dim = 0; dim < shape.rank(); ++dim) {
    const std::int64_t begin = offset[static_cast<std::size_t>(dim)];
    if (begin < 0 || begin > tensor.global_shape[dim] - shape[dim]) {
      throw UserError(str("slice ", value.dump(), " reaches outside ", tensor.global_shape));
    }
  }
  slice.region = region_of(shape, offset);
  if (slice.file >= files.size()) throw UserError(str("slice ", value.dump(), " names no file"));
  const std::int64_t bytes = shape.numel() * size_of(tensor.dtype);
  if (slice.file_offset < 0 || slice.file_offset > files[slice.file].bytes - bytes) {
    throw UserError(str("slice ", value.dump(), " reaches outside ", files[slice.file].name));
  }
  read_parts(value, slice);
  return slice;
}

SavedTensor tensor_from(const json& value, const std::vector<SavedFile>& files) {
  SavedTensor tensor;
  tensor.dtype = dtype_from_name(value.at("dtype").get<std::string>());
  tensor.global_shape = shape_from(value.at("global_shape"), tensor.dtype);
  for (const json& slice : value.at("slices")) {
    tensor.slices.push_back(slice_from(slice, tensor, files));
  }
  return tensor;
}

SavedFile file_from(const json& value) {
  SavedFile file;
  file.name = value.at("name").get<std::string>();
  file.bytes = value.at("bytes").get<std::int64_t>();
  file.hash = value.at("xxh3_128").get<std::string>();
  file.structure_hash = value.at("structure_xxh3_128").get<std::string>();
  if (file.name.empty() || file.name.front() == '.' || file.name.find('/') != std::string::npos) {
    throw UserError(str("'", file.name, "' is not the name of a file in the checkpoint's folder"));
  }
  return file;
}

CheckpointManifest manifest_from(const json& value) {
  CheckpointManifest manifest;
  manifest.id = value.at("id").get<std::string>();
  manifest.info.step = value.at("step").get<std::int64_t>();
  const json& mesh = value.at("mesh");
  manifest.info.mesh.pipeline = mesh.at("pipeline").get<int>();
  manifest.info.mesh.data = mesh.at("data").get<int>();
  manifest.info.mesh.context = mesh.at("context").get<int>();
  manifest.info.mesh.tensor = mesh.at("tensor").get<int>();
  manifest.info.config_hash = value.at("config_hash").get<std::string>();
  manifest.info.config = value.at("config");
  manifest.info.state = value.at("state");
  for (const json& file : value.at("files")) manifest.files.push_back(file_from(file));
  for (const auto& [name, tensor] : value.at("tensors").items()) {
    manifest.tensors.emplace(name, tensor_from(tensor, manifest.files));
  }
  return manifest;
}

// Format and version come before the hash: a later version may hash differently.
void check_format(const json& value) {
  const auto format = value.is_object() ? value.find("format") : value.end();
  if (!value.is_object() || format == value.end() || *format != kCheckpointFormat) {
    throw UserError(str("it is not a manifest of a ", kCheckpointFormat));
  }
  const json version = value.value("version", json());
  if (version != kCheckpointVersion) {
    throw UserError(str("it has format version ", version.dump(), "; this program reads version ",
                        kCheckpointVersion));
  }
}

void check_self_hash(const std::string& text) {
  const std::size_t tail = sizeof(kTailBegin) - 1 + kHashDigits + sizeof(kTailEnd) - 1;
  const std::size_t covered = text.size() > tail ? text.size() - tail : 0;
  const std::string expected =
      str(kTailBegin, hash128(std::string_view(text).substr(0, covered)), kTailEnd);
  if (std::string_view(text).substr(covered) != expected) {
    throw UserError("its hash does not match its content; it was damaged or edited");
  }
}

}  // namespace

std::string to_text(const CheckpointManifest& manifest) {
  check_finite(manifest.info.state, "state");
  check_finite(manifest.info.config, "config");
  std::string text = "{\n";
  const auto member = [&](const char* name, const json& value) {
    text += str(text.size() > 2 ? ",\n" : "", '"', name, "\": ", value.dump());
  };
  member("format", kCheckpointFormat);
  member("version", kCheckpointVersion);
  member("id", manifest.id);
  member("step", manifest.info.step);
  member("mesh", to_json(manifest.info.mesh));
  member("config_hash", manifest.info.config_hash);
  member("config", manifest.info.config);
  member("state", manifest.info.state);
  text += ",\n\"files\": [";
  const char* separator = "\n";
  for (const SavedFile& file : manifest.files) {
    text += str(std::exchange(separator, ",\n"), to_json(file).dump());
  }
  text += "\n],\n\"tensors\": {";
  separator = "\n";
  for (const auto& [name, tensor] : manifest.tensors) {
    text += str(std::exchange(separator, ",\n"), json(name).dump(), ": ", to_json(tensor).dump());
  }
  text += "\n}";
  return str(text, kTailBegin, hash128(text), kTailEnd);
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& where) {
  try {
    const json value = json::parse(text);
    check_format(value);
    check_self_hash(text);
    return manifest_from(value);
  } catch (const json::parse_error&) {
    throw UserError(str(where, ": it is not valid JSON; it was damaged or cut short"));
  } catch (const json::exception& error) {
    throw UserError(str(where, ": ", error.what()));
  } catch (const UserError& error) {
    throw UserError(str(where, ": ", error.what()));
  }
}

}  // namespace filigree
