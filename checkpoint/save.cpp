// CheckpointSave: the collective commit protocol.
//
// Between two collectives a rank only records what went wrong; the next collective tells everybody.
// So no rank throws past a collective that the others wait in, and all ranks throw the same text.
#include <cerrno>
#include <cstring>
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
#include "checkpoint/retention.hpp"
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
constexpr std::int64_t kStructureBytes = 64 << 10;

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

  void create(const fs::path& path, FileSystem& system) {
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error || system.make_folder(path) != 0) {
      throw UserError(str("cannot create folder ", path.string(), ": ",
                          error ? error.message() : std::strerror(errno)));
    }
    path_ = path;
    system_ = &system;
  }
  void remove() noexcept {
    if (!path_.empty()) system_->remove(path_);
    path_.clear();
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  FileSystem* system_ = nullptr;
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
void check_free_space(const fs::path& folder, std::int64_t bytes, FileSystem& system) {
  const std::int64_t available = system.free_bytes(folder);
  if (available < 0 || available >= bytes + kStructureBytes) return;
  throw UserError(str("No space left on device: ", bytes, " bytes are needed in ", folder.string(),
                      " but ", available, " are free; free space there or keep fewer checkpoints"));
}

// A further slice of a tensor on the same rank gets a name of its own.
std::vector<SliceToWrite> slices_to_write(const std::vector<PromisedSlice>& slices,
                                          const std::vector<std::size_t>& indices) {
  std::vector<SliceToWrite> chosen;
  std::map<std::string, int> seen;
  for (const std::size_t index : indices) {
    const PromisedSlice& slice = slices[index];
    const int earlier = seen[slice.name]++;
    chosen.push_back({earlier == 0 ? slice.name : str(slice.name, "#", earlier), &slice});
  }
  return chosen;
}

// What a rank tells rank 0 of its file.
std::string encode_report(const WrittenRankFile& written, const std::vector<SliceToWrite>& slices) {
  json list = json::array();
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const WrittenSlice& slice = written.slices[i];
    list.push_back({{"dataset", slices[i].dataset},
                    {"file_offset", slice.file_offset},
                    {"hash", slice.hash},
                    {"part_rows", slice.part_rows},
                    {"part_hashes", slice.part_hashes}});
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
          .slices.push_back({rank, slice.at("dataset"), claim.region, slice.at("file_offset"),
                             slice.at("hash"), slice.at("part_rows"), slice.at("part_hashes")});
    }
  }
  return manifest;
}

void write_manifest(const fs::path& folder, const CheckpointManifest& manifest,
                    FileSystem& system) {
  const std::string text = to_text(manifest);
  PosixFile file = PosixFile::create(folder / kManifestName, system);
  file.write_at(0, text.data(), static_cast<std::int64_t>(text.size()));
  file.sync();
  file.close();
  sync_folder(folder, system);
}

std::int64_t bytes_of(const CheckpointManifest& manifest) {
  std::int64_t bytes = 0;
  for (const SavedFile& file : manifest.files) bytes += file.bytes;
  return bytes;
}

}  // namespace

PromisedSlice::PromisedSlice(const NamedTensor& slice, std::function<Tensor()> values)
    : name(slice.name),
      dtype(slice.tensor.dtype()),
      shape(slice.tensor.shape()),
      global_shape(slice.global_shape),
      offset(slice.offset),
      fetch(std::move(values)) {}

PromisedSlice::PromisedSlice(const NamedTensor& slice) : PromisedSlice(slice, {}) {
  if (slice.tensor.defined()) fetch = [tensor = slice.tensor] { return tensor; };
}

// One save, as seen by one rank.
struct CheckpointSave::State {
  fs::path folder;
  CheckpointInfo info;
  std::vector<PromisedSlice> slices;
  Communicator& world;
  Retention& retention;
  FileSystem& system;

  TemporaryFolder temporary = {};  // rank 0's
  std::string id = {};
  Claims claims = {};
  Plan plan = {};
  // Of what was done since the last collective call: what went wrong, or the text for the others.
  std::string failure = {}, report = {};
  std::vector<std::string> reports = {};  // of all ranks' files
  std::int64_t published_bytes = 0;       // rank 0's

  std::vector<std::string> agree() {
    return gather_or_throw(world, info.step, std::exchange(failure, ""), std::exchange(report, ""),
                           [this] { temporary.remove(); });
  }
  const std::vector<std::size_t>& own_slices() const {
    return plan[static_cast<std::size_t>(world.rank())];
  }
  fs::path temporary_path() const {
    return folder / temporary_folder_name(info.step, id.substr(0, 8));
  }
  void agree_on_plan();
  void create_folder();
};

void CheckpointSave::State::agree_on_plan() {
  failure = failure_of([&] {
    FILIGREE_CHECK(info.step >= 0, "step is ", info.step);
    report = encode_claims(claims_of(slices));
  });
  for (const std::string& text : agree()) claims.push_back(decode_claims(text));
  // The same input everywhere, hence the same plan or the same error everywhere.
  const std::string unplannable = failure_of([&] { plan = plan_writes(claims); });
  if (!unplannable.empty()) throw UserError(not_saved(info.step) + unplannable);
}

void CheckpointSave::State::create_folder() {
  if (world.rank() == 0) {
    report = id = new_id();
    failure = failure_of([&] {
      retention.wait();
      temporary.create(temporary_path(), system);
      check_free_space(folder, payload_of(claims, plan), system);
    });
  }
  id = agree().front();
}

CheckpointSave::CheckpointSave(fs::path folder, CheckpointInfo info,
                               std::vector<PromisedSlice> slices, Communicator& world,
                               Retention& retention, FileSystem& system)
    : state_(new State{std::move(folder), std::move(info), std::move(slices), world, retention,
                       system}) {
  state_->agree_on_plan();
  state_->create_folder();
}

CheckpointSave::~CheckpointSave() = default;

const std::vector<std::size_t>& CheckpointSave::own_slices() const { return state_->own_slices(); }

void CheckpointSave::write() {
  State& save = *state_;
  save.failure = failure_of([&] {
    const auto slices = slices_to_write(save.slices, save.own_slices());
    const RankFileHeader header{save.id, save.info.step, save.world.rank(), save.world.size()};
    save.report =
        encode_report(write_rank_file(save.temporary_path(), header, slices, save.system), slices);
  });
  save.slices.clear();
}

void CheckpointSave::gather() { state_->reports = state_->agree(); }

void CheckpointSave::publish() {
  State& save = *state_;
  if (save.world.rank() != 0) return;
  save.failure = failure_of([&] {
    const CheckpointManifest manifest =
        assemble(save.id, save.info, save.claims, save.plan, save.reports);
    write_manifest(save.temporary_path(), manifest, save.system);
    filigree::publish(save.temporary_path(), save.folder / step_folder_name(save.info.step),
                      save.system);
    save.published_bytes = bytes_of(manifest);
    save.retention.supersede(save.folder, save.info.step);
  });
}

SavedCheckpoint CheckpointSave::finish() {
  State& save = *state_;
  if (save.world.rank() == 0 && save.failure.empty())
    save.report =
        json{{"bytes", save.published_bytes}, {"warnings", save.retention.take_warnings()}}.dump();
  const json result = json::parse(save.agree().front());
  return {save.folder / step_folder_name(save.info.step), result.at("bytes").get<std::int64_t>(),
          result.at("warnings").get<std::vector<std::string>>()};
}

SavedCheckpoint save_checkpoint(const fs::path& folder, const CheckpointInfo& info,
                                const std::vector<PromisedSlice>& slices, Communicator& world,
                                const RetentionRule& rule, FileSystem& system) {
  Retention retention(rule, system);
  CheckpointSave save(folder, info, slices, world, retention, system);
  save.write();
  save.gather();
  save.publish();
  retention.wait();
  return save.finish();
}

}  // namespace filigree
