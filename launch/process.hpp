// This process among the ones mpirun or srun started, as far as it can be told before MPI is
// initialised, and how it speaks to the user.
#pragma once

#include <string>
#include <string_view>

namespace filigree {

// Rank and size from the launcher's environment; 0 and 1 when started by hand.
int launcher_rank();
int launcher_size();

// Prints on standard output, on the first process only.
void print_once(std::string_view text);

// Throws UserError when this machine's processor lacks what the build needs (AVX2 and FMA on
// x86-64).
void check_processor();

// Prints the exception being handled on standard error, each line of its message as
// "filigree: error: [rank 5 data 1 tensor 1] ...", with its context frames, and returns the exit
// code it means. To be called in a catch block. `rank` is "" or Mesh::describe().
int report_current_exception(std::string_view rank = "");

}  // namespace filigree
