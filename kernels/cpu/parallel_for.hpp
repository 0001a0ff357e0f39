// Loops over independent tasks with OpenMP, on the number of threads that the context grants.
#pragma once

#include <omp.h>

#include <cstdint>

namespace filigree {

// ThreadSanitizer does not see how the OpenMP library synchronises its threads and reports races
// that are none. Where it is on, loops run on the calling thread: it is there to watch the threads
// that are ranks.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kOpenMpThreads = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kOpenMpThreads = false;
#else
inline constexpr bool kOpenMpThreads = true;
#endif
#else
inline constexpr bool kOpenMpThreads = true;
#endif

// body(task, thread) for every task in [0, tasks), handed out one at a time since tasks may differ
// in length. thread is in [0, num_threads) and names the scratch memory to use. The body must not
// throw.
template <class Body>
void parallel_for(std::int64_t tasks, int num_threads, const Body& body) {
  if (num_threads <= 1 || tasks <= 1 || !kOpenMpThreads) {
    for (std::int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
  for (std::int64_t task = 0; task < tasks; ++task) body(task, omp_get_thread_num());
}

// Sets the number of threads that a library called on this thread will use, until it goes out of
// scope. The setting is per thread, so ranks that are threads of one process do not disturb each
// other.
class OpenMpThreads {
 public:
  explicit OpenMpThreads(int count) : previous_(omp_get_max_threads()) {
    omp_set_num_threads(kOpenMpThreads ? count : 1);
  }
  ~OpenMpThreads() { omp_set_num_threads(previous_); }
  OpenMpThreads(const OpenMpThreads&) = delete;
  OpenMpThreads& operator=(const OpenMpThreads&) = delete;

 private:
  int previous_;
};

}  // namespace filigree
