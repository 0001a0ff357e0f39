#include <chrono>
#include <thread>

#include "launch/command.hpp"
#include "launch/process.hpp"
#include "launch/program.hpp"

// An error that arrives here is the same on every process of the job (a wrong option, a missing
// file): the first one reports it. mpirun ends the job with the first process that exits, so the
// others give it time to speak.
int main(int argc, char** argv) {
  try {
    filigree::check_processor();
  } catch (...) {
    return filigree::report_current_exception();
  }
  try {
    return filigree::run_program({argv + 1, argv + argc}, filigree::commands());
  } catch (...) {
    if (filigree::launcher_rank() > 0) std::this_thread::sleep_for(std::chrono::seconds(5));
    return filigree::report_current_exception(
        filigree::launcher_rank() > 0 ? "[rank " + std::to_string(filigree::launcher_rank()) + "]"
                                      : "");
  }
}
