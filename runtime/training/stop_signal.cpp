#include "runtime/training/stop_signal.hpp"

#include <csignal>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// A signal handler has no other way to say anything than through an object of static storage.
volatile std::sig_atomic_t received_signal = 0;
void remember(int signal) { received_signal = signal; }

using Handler = void (*)(int);
Handler previous_terminate = SIG_DFL;
Handler previous_user1 = SIG_DFL;

}  // namespace

StopSignal::StopSignal() {
  received_signal = 0;
  previous_terminate = std::signal(SIGTERM, remember);
  previous_user1 = std::signal(SIGUSR1, remember);
  FILIGREE_CHECK(previous_terminate != remember && previous_user1 != remember,
                 "two StopSignals at a time");
}

StopSignal::~StopSignal() {
  std::signal(SIGTERM, previous_terminate);
  std::signal(SIGUSR1, previous_user1);
}

bool StopSignal::requested() const { return received_signal != 0; }

std::string StopSignal::name() const {
  switch (received_signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return {};
  }
}

}  // namespace filigree
