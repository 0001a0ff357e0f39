#include "parallel/mpi_environment.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "parallel/mpi_communicator.hpp"

namespace filigree {

bool MpiEnvironment::launched_by_mpi() {
  // Set by Open MPI's mpirun, by MPICH's and Intel's (and srun --mpi=pmi2), and by every PMIx
  // launcher.
  constexpr std::array<const char*, 3> names = {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK"};
  return std::any_of(names.begin(), names.end(),
                     [](const char* n) { return std::getenv(n) != nullptr; });
}

LibraryVersion MpiEnvironment::library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text;
  int length = 0;
  check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  // "Open MPI v4.1.4, package: ...": what follows is not for a table.
  const std::string loaded(text.data(), static_cast<std::size_t>(length));
#if defined(OMPI_MAJOR_VERSION)
  const std::string built =
      str("Open MPI v", OMPI_MAJOR_VERSION, ".", OMPI_MINOR_VERSION, ".", OMPI_RELEASE_VERSION);
#else
  const std::string built = str("MPI ", MPI_VERSION, ".", MPI_SUBVERSION);
#endif
  return {"MPI", built, loaded.substr(0, loaded.find_first_of(",\n"))};
}

MpiEnvironment::MpiEnvironment(int* argc, char*** argv)
    : exceptions_at_start_(std::uncaught_exceptions()) {
  if (!launched_by_mpi()) return;
  int provided = 0;
  check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  initialised_ = true;
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  MPI_Comm_rank(host, &local_rank_);
  MPI_Comm_size(host, &local_size_);
  MPI_Comm_free(&host);
}

MpiEnvironment::~MpiEnvironment() {
  if (!initialised_) return;
  if (std::uncaught_exceptions() > exceptions_at_start_) abort(exit_code::kInternalError);
  // MPI_Finalize waits for every rank, without a timeout: enter it together.
  try {
    if (world_) world_->barrier();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    abort(error.code());
  }
  world_.reset();
  MPI_Finalize();
}

std::shared_ptr<Communicator> MpiEnvironment::world(std::chrono::milliseconds timeout) {
  if (!initialised_) return self_communicator("world");
  MpiWorld::Options options;
  options.timeout = timeout;
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  world_ = mpi_communicator(std::make_shared<MpiWorld>(options), comm, "world");
  return world_;
}

std::string MpiEnvironment::host_name() const {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

void MpiEnvironment::abort(int code) noexcept {
  std::fflush(nullptr);
  if (initialised_) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace filigree
