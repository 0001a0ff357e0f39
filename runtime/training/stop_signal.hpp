// SIGTERM and SIGUSR1 ask a run to save and leave; this remembers that they came.
#pragma once

#include <string>

namespace filigree {

// While alive, SIGTERM and SIGUSR1 set a flag instead of ending the process. One at a time per
// process.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const;
  std::string name() const;  // "SIGTERM"; empty before any came
};

}  // namespace filigree
