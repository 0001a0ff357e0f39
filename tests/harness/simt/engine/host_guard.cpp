#include "tests/harness/simt/engine/host_guard.hpp"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace simt {
namespace {

const DeviceMemory* guarded_memory = nullptr;
const StackPool* guarded_stacks = nullptr;
struct sigaction previous;

void say(const char* line) {
  if (write(STDERR_FILENO, line, std::strlen(line)) < 0) abort();
}

void explain(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (guarded_memory->holds(address)) {
    say("simt: the host touched device memory directly; copy it, and wait for the stream\n");
    abort();
  }
  if (guarded_stacks->holds(address)) {
    say("simt: a CUDA thread has overflowed its stack; it holds too many local arrays\n");
    abort();
  }
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  sigaction(signal, &previous, nullptr);  // the access is repeated and ends the process
}

}  // namespace

void install_host_guard(const DeviceMemory& memory, const StackPool& stacks) {
  guarded_memory = &memory;
  guarded_stacks = &stacks;
  struct sigaction action = {};
  action.sa_sigaction = explain;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous);
}

void guard_this_thread() {
  static constexpr std::size_t kBytes = 64 * 1024;
  struct Stack {
    Stack() {
      stack_t stack = {};
      stack.ss_sp = memory.get();
      stack.ss_size = kBytes;
      sigaltstack(&stack, &old);
    }
    ~Stack() { sigaltstack(&old, nullptr); }
    std::unique_ptr<char[]> memory = std::make_unique<char[]>(kBytes);
    stack_t old = {};
  };
  static thread_local const Stack stack;
}

}  // namespace simt
