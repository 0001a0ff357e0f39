// save_checkpoint: the collective commit protocol.
//
// Between two collectives a rank only records what went wrong; the next collective tells everybody.
// So no rank throws past a collective that the others wait in, and all ranks throw the same text.
#include <exception>
#include <map>
#include <random>
#include <system_error>

#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/exchange.hpp"
#include "checkpoint/folders.hpp"
#include "checkpoint/manifest.hpp"
#include "checkpoint/plan.hpp"
#include "checkpoint/rank_file.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Claims = std::vector<std::vector<SliceClaim>>;
using Plan = std::vector<std::vector<std::size_t>>;

// Room for what HDF5 and the manifest add, below which no save can succeed.
constexpr std::uintmax_t kStructureBytes = 64 << 10;

// Runs `work` and returns what it threw as text, or "".
template <class Work>
std::string failure_of(Work&& work) {
  try {
    work();
    return "";
  } catch (const std::exception& error) {
    return error.what()[0] != '\0' ? error.what() : "unknown error";
  }
}

std::string not_saved(std::int64_t step) {
  return str("checkpoint of step ", step, " was not saved: ");
}

// Every rank's text of its own, or, on every rank alike, an error when some rank reports a failure.
std::vector<std::string> gather_or_throw(Communicator& world, std::int64_t step,
                                         const std::string& failure, const std::string& text,
                                         const std::function<void()>& before_throwing) {
  // The first byte says which of the two follows; a text may hold any bytes.
  std::vector<std::string> texts =
      gather_texts(world, failure.empty() ? "+" + text : "-" + failure);
  int first = -1, failed = 0;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank].front() == '+') continue;
    if (failed++ == 0) first = static_cast<int>(rank);
  }
  if (failed > 0) {
    before_throwing();
    throw UserError(str(not_saved(step), "rank ", first, ": ",
                        texts[static_cast<std::size_t>(first)].substr(1),
                        failed > 1 ? str(" (ranks that failed: ", failed, ")") : ""));
  }
  for (std::string& own : texts) own.erase(0, 1);
  return texts;
}

std::string new_id() {
  std::random_device source;
  std::string id;
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t high = source();
    id += hex(high << 32 | source());
  }
  return id;
}

// Removed with everything in it when this goes out of scope, unless it was published under another
// name.
class TemporaryFolder {
 public:
  TemporaryFolder() = default;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { remove(); }

  void create(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (!error) fs::create_directory(path, error);
    if (error) {
      throw UserError(str("cannot create folder ", path.string(), ": ", error.message()));
    }
    path_ = path;
  }
  void remove() noexcept {
    if (path_.empty()) return;
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    path_.clear();
  }

 private:
  fs::path path_;
};

std::int64_t payload_of(const Claims& claims, const Plan& plan) {
  std::int64_t bytes = 0;
  for (std::size_t rank = 0; rank < plan.size(); ++rank) {
    for (const std::size_t index : plan[rank]) bytes += claims[rank][index].bytes();
  }
  return bytes;
}

// Every rank reserves its space before it writes; this says it sooner and for all of them, and
// before libhdf5 could meet a full disk. Where the system does not know, the ranks will find out.
void check_free_space(const fs::path& folder, std::int64_t bytes) {
  std::error_code unknown;
  const auto space = fs::space(folder, unknown);
  if (unknown || space.available >= static_cast<std::uintmax_t>(bytes) + kStructureBytes) return;
  throw UserError(str("No space left on device: ", bytes, " bytes are needed in ", folder.string(),
                      " but ", space.available,
                      " are free; free space there or keep fewer checkpoints"));
}

// A further slice of a tensor on the same rank gets a name of its own.
std::vector<SliceToWrite> slices_to_write(const std::vector<NamedTensor>& tensors,
                                          const std::vector<std::size_t>& indices) {
  std::vector<SliceToWrite> slices;
  std::map<std::string, int> seen;
  for (const std::size_t index : indices) {
    const int earlier = seen[tensors[index].name]++;
    slices.push_back({earlier == 0 ? tensors[index].name : str(tensors[index].name, "#", earlier),
                      &tensors[index]});
  }
  return slices;
}

// What a rank tells rank 0 of its file.
std::string encode_report(const WrittenRankFile& written, const std::vector<SliceToWrite>& slices) {
  json list = json::array();
  for (std::size_t i = 0; i < slices.size(); ++i) {
    list.push_back({{"dataset", slices[i].dataset},
                    {"file_offset", written.slices[i].file_offset},
                    {"hash", written.slices[i].hash}});
  }
  return json{{"name", written.file.name},
              {"bytes", written.file.bytes},
              {"hash", written.file.hash},
              {"structure_hash", written.file.structure_hash},
              {"slices", std::move(list)}}
      .dump();
}

CheckpointManifest assemble(const std::string& id, const CheckpointInfo& info, const Claims& claims,
                            const Plan& plan, const std::vector<std::string>& reports) {
  CheckpointManifest manifest{id, info, {}, {}};
  for (const auto& of_rank : claims) {
    for (const SliceClaim& claim : of_rank) {
      manifest.tensors.emplace(claim.name, SavedTensor{claim.dtype, claim.global_shape, {}});
    }
  }
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    const json report = json::parse(reports[rank]);
    manifest.files.push_back(
        {report.at("name"), report.at("bytes"), report.at("hash"), report.at("structure_hash")});
    for (std::size_t i = 0; i < plan[rank].size(); ++i) {
      const SliceClaim& claim = claims[rank][plan[rank][i]];
      const json& slice = report.at("slices").at(i);
      manifest.tensors.at(claim.name)
          .slices.push_back(
              {rank, slice.at("dataset"), claim.region, slice.at("file_offset"), slice.at("hash")});
    }
  }
  return manifest;
}

void write_manifest(const fs::path& folder, const CheckpointManifest& manifest) {
  const std::string text = to_text(manifest);
  PosixFile file = PosixFile::create(folder / kManifestName);
  file.write_at(0, text.data(), static_cast<std::int64_t>(text.size()));
  file.sync();
  file.close();
  sync_folder(folder);
}

std::int64_t bytes_of(const CheckpointManifest& manifest) {
  std::int64_t bytes = 0;
  for (const SavedFile& file : manifest.files) bytes += file.bytes;
  return bytes;
}

// One save, as seen by one rank.
class Save {
 public:
  Save(const fs::path& folder, const CheckpointInfo& info, const std::vector<NamedTensor>& tensors,
       Communicator& world, std::int64_t keep)
      : folder_(folder), info_(info), tensors_(tensors), world_(world), keep_(keep) {}

  SavedCheckpoint run() {
    agree_on_plan();
    create_folder();
    return publish_files(write_files());
  }

 private:
  std::vector<std::string> agree(const std::string& failure, const std::string& text) {
    return gather_or_throw(world_, info_.step, failure, text, [this] { temporary_.remove(); });
  }

  void agree_on_plan() {
    std::string own;
    const std::string failure = failure_of([&] {
      FILIGREE_CHECK(keep_ >= 1, "keep is ", keep_);
      FILIGREE_CHECK(info_.step >= 0, "step is ", info_.step);
      own = encode_claims(claims_of(tensors_));
    });
    for (const std::string& text : agree(failure, own)) claims_.push_back(decode_claims(text));
    // The same input everywhere, hence the same plan or the same error everywhere.
    const std::string unplannable = failure_of([&] { plan_ = plan_writes(claims_); });
    if (!unplannable.empty()) throw UserError(not_saved(info_.step) + unplannable);
  }

  void create_folder() {
    std::string failure;
    if (world_.rank() == 0) {
      id_ = new_id();
      failure = failure_of([&] {
        temporary_.create(temporary_path());
        check_free_space(folder_, payload_of(claims_, plan_));
      });
    }
    id_ = agree(failure, id_).front();
  }

  fs::path temporary_path() const {
    return folder_ / temporary_folder_name(info_.step, id_.substr(0, 8));
  }

  std::vector<std::string> write_files() {
    std::string report;
    const std::string failure = failure_of([&] {
      const auto slices = slices_to_write(tensors_, plan_[static_cast<std::size_t>(world_.rank())]);
      const RankFileHeader header{id_, info_.step, world_.rank(), world_.size()};
      report = encode_report(write_rank_file(temporary_path(), header, slices), slices);
    });
    return agree(failure, report);
  }

  SavedCheckpoint publish_files(const std::vector<std::string>& reports) {
    SavedCheckpoint saved;
    saved.folder = folder_ / step_folder_name(info_.step);
    std::string failure, text;
    if (world_.rank() == 0) {
      failure = failure_of([&] {
        const CheckpointManifest manifest = assemble(id_, info_, claims_, plan_, reports);
        write_manifest(temporary_path(), manifest);
        publish(temporary_path(), saved.folder);
        text = json{{"bytes", bytes_of(manifest)}, {"warnings", retire()}}.dump();
      });
    }
    const json result = json::parse(agree(failure, text).front());
    saved.bytes = result.at("bytes").get<std::int64_t>();
    saved.warnings = result.at("warnings").get<std::vector<std::string>>();
    return saved;
  }

  // The new checkpoint is safe by now: trouble with old ones is no failure.
  std::vector<std::string> retire() {
    std::vector<std::string> warnings;
    const std::string failure =
        failure_of([&] { warnings = retire_checkpoints(folder_, info_.step, keep_); });
    if (!failure.empty()) warnings.push_back(failure);
    return warnings;
  }

  const fs::path& folder_;
  const CheckpointInfo& info_;
  const std::vector<NamedTensor>& tensors_;
  Communicator& world_;
  const std::int64_t keep_;
  TemporaryFolder temporary_;  // rank 0's
  std::string id_;
  Claims claims_;
  Plan plan_;
};

}  // namespace

SavedCheckpoint save_checkpoint(const fs::path& folder, const CheckpointInfo& info,
                                const std::vector<NamedTensor>& tensors, Communicator& world,
                                std::int64_t keep) {
  return Save(folder, info, tensors, world, keep).run();
}

}  // namespace filigree
