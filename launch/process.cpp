#include "launch/process.hpp"

#include <cstdlib>
#include <iostream>
#include <new>
#include <sstream>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// OpenMPI, PMI (MPICH, srun --mpi=pmi2), PMIx and plain srun, in this order.
int from_environment(std::initializer_list<const char*> names, int fallback) {
  for (const char* name : names)
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return fallback;
}

int print_error(std::string_view rank, const std::string& message, int code) {
  std::istringstream lines(message);
  std::string line, text;
  while (std::getline(lines, line))
    text += str("filigree: error: ", rank, rank.empty() ? "" : " ", line, "\n");
  std::cerr << text << std::flush;
  return code;
}

}  // namespace

int launcher_rank() {
  return from_environment({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0);
}

int launcher_size() {
  // Not SLURM_NTASKS: a batch script has it too, whose own commands are single processes.
  return from_environment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}, 1);
}

void print_once(std::string_view text) {
  if (launcher_rank() == 0) std::cout << text << std::flush;
}

void check_processor() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw UserError(
        "this processor has no AVX2 and FMA instructions, which this build needs; x86-64 machines "
        "since 2013 "
        "(Haswell) and 2015 (Excavator, Zen) have them, virtual machines must pass them through "
        "(qemu: -cpu host)");
#endif
}

int report_current_exception(std::string_view rank) {
  try {
    throw;
  } catch (const Error& error) {
    return print_error(rank, error.with_context(), error.code());
  } catch (const std::bad_alloc&) {
    return print_error(rank, "out of memory: use a smaller train.micro_batch or more ranks",
                       exit_code::kUserError);
  } catch (const std::exception& error) {
    return print_error(rank, str("unexpected: ", error.what()), exit_code::kInternalError);
  }
}

}  // namespace filigree
