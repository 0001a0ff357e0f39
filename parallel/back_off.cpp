#include "parallel/back_off.hpp"

#include <sched.h>

#include <thread>

namespace filigree {

using namespace std::chrono_literals;

void back_off(std::chrono::steady_clock::duration waited) {
  if (waited < 2ms)
    sched_yield();
  else
    std::this_thread::sleep_for(waited < 50ms ? 50us : 500us);
}

}  // namespace filigree
