#include "runtime/training/checkpoint_benchmark.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iomanip>
#include <sstream>
#include <thread>

#include "checkpoint/saver.hpp"
#include "runtime/core/random.hpp"
#include "runtime/storage/posix_file.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/metrics.hpp"
#include "runtime/training/training_checkpoint.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kReadBytes = std::int64_t{8} << 20;

double most_of(Communicator& world, double value) {
  const Tensor tensor = Tensor::from<double>({1}, {{value}});
  world.all_reduce(tensor, ReduceOp::max);
  return *tensor.data<double>();
}

std::int64_t sum_of(Communicator& world, std::int64_t value) {
  const Tensor tensor = Tensor::from<std::int64_t>({1}, {{value}});
  world.all_reduce(tensor);
  return *tensor.data<std::int64_t>();
}

// Of the slowest rank. `body` does not communicate.
double seconds_of_all(Communicator& world, const std::function<void()>& body) {
  double seconds = 0;
  world.barrier();
  agree(world, [&] {
    const Clock::time_point begun = Clock::now();
    body();
    seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  });
  return most_of(world, seconds);
}

std::int64_t bytes_of(const std::vector<NamedTensor>& tensors) {
  std::int64_t bytes = 0;
  for (const NamedTensor& named : tensors) bytes += named.tensor.bytes();
  return bytes;
}

// A folder of this benchmark alone, gone with everything in it on every way out.
class ScratchFolder {
 public:
  ScratchFolder(Communicator& world, const fs::path& parent) : first_(world.rank() == 0) {
    agree_on_first(world, [&] {
      std::string name = (parent / "bench_checkpoint.XXXXXX").string();
      if (::mkdtemp(name.data()) == nullptr)
        throw UserError(str("cannot create a folder in ", parent.string(), ": ",
                            std::strerror(errno), "; --folder names one to write to"));
      path_ = name;
    });
    path_ = broadcast_text(world, path_.string(), 0);
  }
  ~ScratchFolder() {
    if (first_) posix_file_system().remove(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  bool first_;
  fs::path path_;
};

// Values that no disk can make smaller.
void fill(const Tensor& tensor, std::uint64_t stream) {
  const Philox random(1, RandomPurpose::test, stream);
  auto* bytes = static_cast<std::byte*>(tensor.raw());
  for (std::int64_t begin = 0; begin < tensor.bytes(); begin += 16) {
    const auto block = random.bits(static_cast<std::uint64_t>(begin));
    std::memcpy(bytes + begin, block.data(),
                static_cast<std::size_t>(std::min<std::int64_t>(16, tensor.bytes() - begin)));
  }
}

// By rank.
std::vector<fs::path> rank_files(const fs::path& checkpoint) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoint))
    if (entry.path().extension() == ".h5") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void write_plain(const fs::path& path, const std::vector<NamedTensor>& tensors,
                 std::int64_t bytes) {
  PosixFile file = PosixFile::create(path);
  std::int64_t done = 0;
  for (std::size_t i = 0; done < bytes; i = (i + 1) % tensors.size()) {
    const Tensor& tensor = tensors[i].tensor;
    const std::int64_t count = std::min(tensor.bytes(), bytes - done);
    file.write_at(done, tensor.raw(), count);
    done += count;
  }
  file.sync();
  file.close();
}

void read_plain(const std::vector<fs::path>& paths, std::int64_t bytes,
                std::vector<std::byte>& buffer) {
  for (std::size_t i = 0; bytes > 0; i = (i + 1) % paths.size()) {
    const PosixFile file = PosixFile::open_for_reading(paths[i]);
    const std::int64_t size = std::min(file.size(), bytes);
    for (std::int64_t done = 0; done < size; done += kReadBytes)
      file.read_at(done, buffer.data(), std::min(kReadBytes, size - done));
    bytes -= size;
  }
}

void forget(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

// Pages of the file that are in memory, and all.
std::pair<std::int64_t, std::int64_t> pages_in_memory(const fs::path& path) {
  const PosixFile file = PosixFile::open_for_reading(path);
  const auto bytes = static_cast<std::size_t>(file.size());
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* mapped =
      descriptor < 0 ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (descriptor >= 0) ::close(descriptor);
  if (mapped == MAP_FAILED) return {0, 0};
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident((bytes + page - 1) / page);
  const bool known = ::mincore(mapped, bytes, resident.data()) == 0;
  ::munmap(mapped, bytes);
  if (!known) return {0, 0};
  return {std::count_if(resident.begin(), resident.end(), [](auto bits) { return bits & 1; }),
          std::ssize(resident)};
}

// What a rank would hold with twice as many tensor ranks: half of what it holds or
// less, of matrices by rows and by columns in turns.
std::vector<NamedTensor> slices_of_other_layout(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> slices;
  for (const NamedTensor& named : tensors) {
    const Shape& shape = named.tensor.shape();
    NamedTensor slice = named;
    if (shape.rank() > 0) {
      const int dim = static_cast<int>(slices.size()) % shape.rank();
      slice.tensor = Tensor::empty(shape.with(dim, (shape[dim] + 1) / 2), named.tensor.dtype());
    } else {
      slice.tensor = Tensor::empty(shape, named.tensor.dtype());
    }
    slices.push_back(std::move(slice));
  }
  return slices;
}

class Benchmark {
 public:
  Benchmark(const RunConfig& config, const std::shared_ptr<Communicator>& world,
            const CheckpointBenchmarkOptions& options)
      : options_(options),
        mesh_(world, config.parallel),
        world_(*world),
        scratch_(*world, options.folder),
        engine_(config, mesh_, context_of(config, options)) {
    fill(engine_.optimizer().first_moment(), 1);
    fill(engine_.optimizer().second_moment(), 2);
    tensors_ = training_tensors(engine_.parameters(), engine_.optimizer());
    result_.layout = config.parallel;
    result_.parameters = config.model.parameters();
    result_.tensors = tensors_.size();
    result_.step_seconds = options.step_seconds;
  }

  CheckpointBenchmark run() {
    measure_writing();
    measure_reading();
    return result_;
  }

 private:
  static ExecutionContext context_of(const RunConfig& config,
                                     const CheckpointBenchmarkOptions& options) {
    ExecutionContext context;
    context.num_threads = options.threads;
    context.forced_kernels = parse_forced_kernels(config.train.kernels);
    return context;
  }

  CheckpointSaver saver(const char* name, bool background) {
    return {scratch_.path() / name,
            world_,
            {.rule = {.keep = 1}, .background = background, .context = engine_.context()}};
  }

  SaveReport save(CheckpointSaver& saver) {
    CheckpointInfo info;
    info.step = ++step_;
    info.mesh = mesh_.shape();
    world_.barrier();
    auto report = saver.start(info, tensors_);
    while (!report) {
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.step_seconds));
      saver.wait_for_copy();
      world_.barrier();  // as the ranks meet in every step
      report = saver.poll();
    }
    if (report->failed()) throw AgreedError(report->failure);
    newest_ = report->saved.folder;
    return *std::move(report);
  }

  // Of what the save superseded. To be called after each: it must not slow down what is measured
  // next.
  double removal_seconds(CheckpointSaver& saver) {
    return seconds_of_all(world_, [&] {
      for (const std::string& warning : saver.wait_for_removal()) throw UserError(warning);
    });
  }

  void add(Timed& timed, double seconds) { timed.seconds.push_back(most_of(world_, seconds)); }

  // The first two of each are not counted: the first finds neither memory nor folders, and neither
  // supersedes another.
  void measure_writing() {
    CheckpointSaver foreground = saver("foreground", false), background = saver("background", true);
    result_.first_pause = most_of(world_, save(background).pause_seconds);
    save(background);
    for (int i = 0; i < 2; ++i) save(foreground);
    const CheckpointReader reader(newest_);
    const auto bytes = static_cast<std::int64_t>(
        fs::file_size(rank_files(newest_)[static_cast<std::size_t>(world_.rank())]));
    const fs::path plain = scratch_.path() / str("plain_", world_.rank());
    for (std::int64_t i = 0; i < options_.repeats; ++i) {
      result_.plain_write.seconds.push_back(
          seconds_of_all(world_, [&] { write_plain(plain, tensors_, bytes); }));
      posix_file_system().remove(plain);
      add(result_.save, save(foreground).pause_seconds);
      result_.removal.seconds.push_back(removal_seconds(foreground));
      const SaveReport report = save(background);
      removal_seconds(background);
      add(result_.pause, report.pause_seconds);
      add(result_.background, report.total_seconds);
    }
    for (Timed* timed : {&result_.plain_write, &result_.save, &result_.removal, &result_.pause,
                         &result_.background})
      timed->bytes = reader.bytes();
  }

  // In turns, each with files that the system was asked to forget.
  void measure_reading() {
    std::vector<fs::path> paths = rank_files(newest_);
    // Ranks begin at their own file.
    std::rotate(paths.begin(), paths.begin() + world_.rank(), paths.end());
    std::vector<std::byte> buffer(static_cast<std::size_t>(kReadBytes));
    const std::vector<NamedTensor> other = slices_of_other_layout(tensors_);
    const auto timed = [&](Timed& result, std::int64_t bytes, const std::function<void()>& body) {
      result.bytes = sum_of(world_, bytes);
      forget_all(paths);
      result.seconds.push_back(seconds_of_all(world_, body));
    };
    const std::int64_t bytes = bytes_of(tensors_);
    for (std::int64_t i = 0; i < options_.repeats; ++i) {
      timed(result_.plain_read, bytes, [&] { read_plain(paths, bytes, buffer); });
      timed(result_.load, bytes,
            [&] { load_training_tensors(CheckpointReader(newest_), engine_); });
      timed(result_.load_other, bytes_of(other), [&] {
        const CheckpointReader opened(newest_);
        for (const NamedTensor& target : other) opened.read(target);
      });
    }
  }

  void forget_all(const std::vector<fs::path>& paths) {
    world_.barrier();
    std::int64_t resident = 0, pages = 0;
    agree_on_first(world_, [&] {
      for (const fs::path& path : paths) {
        forget(path);
        const auto [in_memory, all] = pages_in_memory(path);
        resident += in_memory;
        pages += all;
      }
    });
    const double share =
        pages == 0 ? 0.0 : static_cast<double>(resident) / static_cast<double>(pages);
    result_.cached = std::max(result_.cached, most_of(world_, share));
  }

  CheckpointBenchmarkOptions options_;
  Mesh mesh_;
  Communicator& world_;
  ScratchFolder scratch_;
  TrainingEngine engine_;
  std::vector<NamedTensor> tensors_;  // views of the engine's
  std::int64_t step_ = 0;
  fs::path newest_;
  CheckpointBenchmark result_{};
};

void add_row(std::ostringstream& out, const char* what, const Timed& timed, const Timed& plain) {
  const auto [least, most] = std::minmax_element(timed.seconds.begin(), timed.seconds.end());
  out << std::left << std::setw(34) << what << std::right << std::setw(9)
      << fixed(1e3 * timed.median(), 1) << " ms  (" << fixed(1e3 * *least, 1) << " to "
      << fixed(1e3 * *most, 1) << ")" << std::setw(8) << fixed(timed.bytes_per_second() / 1e9, 2)
      << " GB/s" << std::setw(7)
      << fixed(100 * timed.bytes_per_second() / plain.bytes_per_second(), 0) << " %\n";
}

nlohmann::ordered_json to_json(const Timed& timed) {
  return {{"bytes", timed.bytes},
          {"median_seconds", timed.median()},
          {"bytes_per_second", timed.bytes_per_second()},
          {"seconds", timed.seconds}};
}

}  // namespace

double Timed::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double Timed::bytes_per_second() const { return static_cast<double>(bytes) / median(); }

CheckpointBenchmark measure_checkpoints(const RunConfig& config,
                                        const std::shared_ptr<Communicator>& world,
                                        const CheckpointBenchmarkOptions& options) {
  return Benchmark(config, world, options).run();
}

std::string checkpoint_benchmark_text(const CheckpointBenchmark& result) {
  std::ostringstream out;
  out << result.parameters << " parameters with their moments, " << result.tensors
      << " tensors per rank, " << readable_bytes(static_cast<double>(result.save.bytes)) << " in "
      << result.layout.world() << " files, layout " << result.layout.name()
      << "\nmedian (fastest to slowest) of " << result.save.seconds.size()
      << " repeats, each of the slowest rank; the last column is the share of the plain one\n\n";
  add_row(out, "plain write and fsync", result.plain_write, result.plain_write);
  add_row(out, "save in the foreground", result.save, result.plain_write);
  add_row(out, "save in the background", result.background, result.plain_write);
  add_row(out, "removal of the one superseded", result.removal, result.plain_write);
  out << '\n';
  add_row(out, "plain read", result.plain_read, result.plain_read);
  add_row(out, "load", result.load, result.plain_read);
  add_row(out, "load on twice the tensor ranks", result.load_other, result.plain_read);
  out << (result.cached < 0.01
              ? "(read from the disk: nothing of the files was in memory)\n"
              : str("(up to ", fixed(100 * result.cached, 0),
                    " % of the files were in memory, which the system would not forget)\n"));
  out << "\ntraining in steps of " << fixed(result.step_seconds, 3) << " s stands still for "
      << fixed(1e3 * result.pause.median(), 2)
      << " ms when saving in the background (the first time " << fixed(1e3 * result.first_pause, 2)
      << " ms), " << fixed(result.save.median() / result.pause.median(), 1)
      << " times shorter than in the foreground\n";
  return std::move(out).str();
}

nlohmann::ordered_json to_json(const CheckpointBenchmark& result) {
  return {{"layout", result.layout.name()},
          {"parameters", result.parameters},
          {"tensors_per_rank", result.tensors},
          {"plain_write", to_json(result.plain_write)},
          {"save", to_json(result.save)},
          {"removal", to_json(result.removal)},
          {"save_in_background", to_json(result.background)},
          {"pause", to_json(result.pause)},
          {"first_pause_seconds", result.first_pause},
          {"step_seconds", result.step_seconds},
          {"plain_read", to_json(result.plain_read)},
          {"load", to_json(result.load)},
          {"load_other_layout", to_json(result.load_other)},
          {"cached_share", result.cached},
          {"save_of_plain_write",
           result.save.bytes_per_second() / result.plain_write.bytes_per_second()},
          {"pause_shorter_by", result.save.median() / result.pause.median()}};
}

}  // namespace filigree
