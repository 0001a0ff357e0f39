#include "launch/commands/world.hpp"

#include <sched.h>

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <cstring>

#include "launch/process.hpp"
#include "runtime/core/error.hpp"
#include "runtime/core/log.hpp"
#include "runtime/core/random.hpp"
#include "runtime/training/agreement.hpp"

namespace filigree {
namespace {

constexpr std::size_t kWords = sizeof(cpu_set_t) / sizeof(std::int64_t);
using Processors = std::bitset<8 * sizeof(cpu_set_t)>;

Tensor my_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  FILIGREE_CHECK(sched_getaffinity(0, sizeof(set), &set) == 0, "sched_getaffinity");
  const Tensor words = Tensor::zeros(Shape{static_cast<std::int64_t>(kWords)}, DType::i64);
  std::memcpy(words.raw(), &set, sizeof(set));
  return words;
}

Processors as_bits(const std::int64_t* words) {
  Processors bits;
  for (std::size_t word = kWords; word-- > 0;) {
    bits <<= 64;
    bits |= Processors(static_cast<unsigned long long>(words[word]));
  }
  return bits;
}

}  // namespace

int run_in_world(double timeout_seconds, const std::function<int(const RankEnvironment&)>& body) {
  if (launcher_size() > 1 && !MpiEnvironment::launched_by_mpi())
    throw UserError(str("srun started ", launcher_size(),
                        " processes that do not know of each other; start them with "
                        "srun --mpi=pmix, or with mpirun"));
  MpiEnvironment mpi(nullptr, nullptr);
  const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * timeout_seconds));
  std::shared_ptr<Communicator> world;
  const auto label = [&] {
    return world && world->size() > 1 ? str("[rank ", world->rank(), "]") : std::string();
  };
  try {
    world = mpi.world(timeout);
    return body({mpi, world, timeout});
  } catch (const AgreedError& error) {
    if (world->rank() == 0) report_current_exception();
    return error.code();
  } catch (...) {
    mpi.abort(report_current_exception(label()));
  }
}

void warn_on_console(const std::string& text) { Log().warning(text); }

void require_single_process(const char* command) {
  if (launcher_size() > 1)
    throw UserError(str("`filigree ", command, "` is one process and was started as ",
                        launcher_size(), "; start it without mpirun"));
}

int threads_per_rank(int wanted, const RankEnvironment& environment) {
  if (wanted > 0) return wanted;
  Communicator& world = *environment.world;
  const Tensor mine = my_processors(), host = Tensor::zeros(Shape{1}, DType::i64);
  *host.data<std::int64_t>() = static_cast<std::int64_t>(hash_text(environment.mpi.host_name()));
  const Tensor all = Tensor::zeros(Shape{world.size(), mine.numel()}, DType::i64);
  const Tensor hosts = Tensor::zeros(Shape{world.size()}, DType::i64);
  world.all_gather(mine, all);
  world.all_gather(host, hosts);
  // Whether the launcher has bound each rank to processors of its own or left all of them to all
  // ranks, together they have the union of what they may use.
  Processors processors;
  int ranks = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (hosts.data<std::int64_t>()[rank] != *host.data<std::int64_t>()) continue;
    processors |= as_bits(all.data<std::int64_t>() + rank * mine.numel());
    ++ranks;
  }
  return std::max(1, static_cast<int>(processors.count()) / ranks);
}

int threads_of_process(int wanted) {
  if (wanted > 0) return wanted;
  return std::max(1, static_cast<int>(as_bits(my_processors().data<std::int64_t>()).count()));
}

}  // namespace filigree
