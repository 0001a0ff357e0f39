#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "parallel/mpi_communicator.hpp"

namespace filigree {
namespace {

constexpr int kHostBytes = 64;

std::vector<std::string> gather_hosts(int ranks) {
  std::array<char, kHostBytes> mine{};
  gethostname(mine.data(), mine.size() - 1);
  std::vector<char> all(static_cast<std::size_t>(ranks) * kHostBytes);
  check_mpi(MPI_Allgather(mine.data(), kHostBytes, MPI_CHAR, all.data(), kHostBytes, MPI_CHAR,
                          MPI_COMM_WORLD),
            "MPI_Allgather");
  std::vector<std::string> hosts;
  for (int r = 0; r < ranks; ++r) hosts.emplace_back(all.data() + r * kHostBytes);
  return hosts;
}

// The watchdog's thread must not enter MPI: the main thread is stuck in there. The launcher sees a
// rank end with an error and ends the others.
void end_process(const std::string& sentence) {
  std::fprintf(stderr, "%s; ending the job\n", sentence.c_str());
  std::fflush(stderr);
  std::_Exit(exit_code::kPeerFailed);
}

}  // namespace

void check_mpi(int code, const char* function) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw PeerFailed(str(function, " failed: ", text.data()), -1);
}

MpiWorld::MpiWorld(const Options& o) : options(o) {
  int size = 1;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  hosts = gather_hosts(size);
  // The polling loops time out first; the watchdog is for a rank that does not come back from MPI.
  const auto limit = options.timeout + options.timeout / 4 + std::chrono::milliseconds(500);
  watchdog = std::make_unique<Watchdog>(name_of_rank(rank), limit, end_process);
}

MpiWorld::~MpiWorld() {
  // Left by an exception: the job is about to end, and MPI may write to these tensors until then.
  if (!in_flight.empty()) new std::list<std::shared_ptr<MpiReduction>>(std::move(in_flight));
}

void MpiWorld::progress() {
  in_flight.remove_if([](const auto& reduction) { return reduction->advance(); });
}

std::string MpiWorld::name_of_rank(int world_rank) const {
  return str("rank ", world_rank, " on ", hosts[static_cast<std::size_t>(world_rank)]);
}

}  // namespace filigree
