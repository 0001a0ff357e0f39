#include "conversion/weight_files.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <memory>
#include <sstream>
#include <system_error>

#include <nlohmann/json.hpp>

#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/untrusted_json.hpp"

namespace filigree {
namespace fs = std::filesystem;

namespace {

constexpr char kSuffix[] = ".safetensors";

std::string index_name(const std::string& stem) { return stem + kSuffix + ".index.json"; }

std::string shard_name(const std::string& stem, std::size_t shard, std::size_t shards) {
  if (shards == 1) return stem + kSuffix;
  std::ostringstream name;
  name << stem << '-' << std::setfill('0') << std::setw(5) << shard + 1 << "-of-" << std::setw(5)
       << shards << kSuffix;
  return name.str();
}

using Shard = std::vector<const PromisedTensor*>;

std::vector<Shard> split(const std::vector<PromisedTensor>& tensors, std::int64_t most_bytes) {
  std::vector<Shard> shards(1);
  std::int64_t bytes = 0;
  for (const PromisedTensor& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes() > most_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(&tensor);
    bytes += tensor.bytes();
  }
  return shards;
}

void write_shard(const fs::path& path, const Shard& shard) {
  std::vector<SafetensorsSlot> slots;
  for (const PromisedTensor* tensor : shard)
    slots.push_back({tensor->name, tensor->dtype, tensor->shape});
  SafetensorsWriter writer(path, std::move(slots));
  for (const PromisedTensor* tensor : shard) writer.write(tensor->make());
  writer.close();
}

}  // namespace

Tensor narrowed(const Tensor& values, DType dtype, const std::string& what) {
  Tensor result = values.to(dtype);
  constexpr std::int64_t kPart = 1 << 16;
  for (std::int64_t begin = 0; begin < values.numel(); begin += kPart) {
    const Shape part{std::min(kPart, values.numel() - begin)};
    const Tensor before = values.flat(begin, part).to(DType::f64);
    const Tensor after = result.flat(begin, part).to(DType::f64);
    for (std::int64_t i = 0; i < part.numel(); ++i)
      if (const double value = before.data<double>()[i];
          std::isfinite(value) && !std::isfinite(after.data<double>()[i]))
        throw UserError(
            str(what, ": the value ", value, " is too large for ", name_of(dtype),
                dtype == DType::f16 ? " (65504 at most); take --dtype bf16 or f32" : ""));
  }
  return result;
}

void report_progress(std::vector<PromisedTensor>& tensors, int passes,
                     const ConversionProgress& progress) {
  if (!progress) return;
  std::int64_t total = 0;
  for (const PromisedTensor& tensor : tensors) total += passes * tensor.bytes();
  const auto done = std::make_shared<std::int64_t>(0);
  for (PromisedTensor& tensor : tensors)
    tensor.make = [make = tensor.make, bytes = tensor.bytes(), progress, done, total] {
      progress(*done, total);
      *done += bytes;
      return make();
    };
}

int write_weights(const fs::path& folder, const std::string& stem,
                  const std::vector<PromisedTensor>& tensors, std::int64_t most_bytes) {
  const std::vector<Shard> shards = split(tensors, most_bytes);
  nlohmann::ordered_json map;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(stem, i, shards.size());
    write_shard(folder / name, shards[i]);
    for (const PromisedTensor* tensor : shards[i]) {
      map[tensor->name] = name;
      total += tensor->bytes();
    }
  }
  if (shards.size() > 1) {
    const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}},
                                          {"weight_map", map}};
    write_file_atomically(folder / index_name(stem), index.dump(2) + "\n");
  }
  return static_cast<int>(shards.size());
}

WeightFolder::WeightFolder(const fs::path& folder, const std::string& stem) : folder_(folder) {
  std::error_code error;
  const fs::path index = folder / index_name(stem), one = folder / (stem + kSuffix);
  if (fs::is_regular_file(one, error)) {  // the first choice of transformers too
    open_one(one);
  } else if (fs::is_regular_file(index, error)) {
    open_index(index);
  } else {
    const bool pickled = fs::exists(folder / "pytorch_model.bin", error) ||
                         fs::exists(folder / "pytorch_model.bin.index.json", error);
    throw UserError(str("folder ", folder.string(), " has no ", stem, kSuffix, " and no ",
                        index_name(stem),
                        pickled ? "; pytorch_model.bin is not read, because a pickle can run code: "
                                  "save the model with save_pretrained(safe_serialization=True)"
                                : ""));
  }
}

void WeightFolder::open_one(const fs::path& file) {
  const std::string name = file.filename().string();
  const SafetensorsReader& reader = readers_.emplace(name, SafetensorsReader(file)).first->second;
  for (const std::string& tensor : reader.names()) files_of_[tensor] = name;
}

void WeightFolder::open_index(const fs::path& index) {
  const FileProblem problem("index", index);
  const auto json = parse_json(read_file(index), problem);
  problem.require(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
                  "it is no JSON object with a weight_map");
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    const std::string name = file.is_string() ? file.template get<std::string>() : "";
    // A plain name: an index must not lead out of its folder.
    problem.require(name.ends_with(kSuffix) && fs::path(name).filename() == name, "tensor '",
                    tensor, "' lies in ", file.dump(), ", which is no name of a ", kSuffix,
                    " file");
    if (readers_.count(name) == 0) readers_.emplace(name, SafetensorsReader(folder_ / name));
    problem.require(readers_.at(name).contains(tensor), "tensor '", tensor, "' is not in ", name);
    files_of_[tensor] = name;
  }
}

std::vector<std::string> WeightFolder::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : files_of_) names.push_back(name);
  return names;
}

const SafetensorsReader& WeightFolder::file_of(const std::string& name) const {
  const auto found = files_of_.find(name);
  if (found != files_of_.end()) return readers_.at(found->second);
  const std::string nearest = nearest_name(name, names());
  throw UserError(str("folder ", folder_.string(), " has no tensor '", name, "'",
                      nearest.empty() ? "" : "; the nearest is '" + nearest + "'"));
}

void verify_tensor(const Tensor& found, const PromisedTensor& promised, const std::string& place) {
  const Tensor expected = promised.make();
  if (found.dtype() != expected.dtype() || found.shape() != expected.shape() ||
      std::memcmp(found.raw(), expected.raw(), static_cast<std::size_t>(expected.bytes())) != 0)
    throw UserError(str("verification failed: tensor '", promised.name, "' in ", place,
                        " is not what was to be written; ", kDistrust));
}

void verify_weights(const fs::path& folder, const std::string& stem,
                    const std::vector<PromisedTensor>& tensors) {
  const WeightFolder written(folder, stem);
  for (const PromisedTensor& tensor : tensors)
    verify_tensor(written.read(tensor.name), tensor, written.place(tensor.name));
  if (written.names().size() != tensors.size())
    throw UserError(str("verification failed: ", folder.string(), " holds ", written.names().size(),
                        " tensors, ", tensors.size(), " were written"));
}

}  // namespace filigree
