#include "runtime/training/stop_signal.hpp"

#include <gtest/gtest.h>

#include <csignal>

namespace filigree {
namespace {

TEST(StopSignal, RemembersEachSignalAndRestoresTheHandlers) {
  for (const auto& [signal, name] : {std::pair{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}}) {
    const auto before = std::signal(signal, SIG_IGN);
    {
      const StopSignal stop;
      EXPECT_FALSE(stop.requested());
      EXPECT_EQ(stop.name(), "");
      std::raise(signal);
      EXPECT_TRUE(stop.requested());
      EXPECT_EQ(stop.name(), name);
    }
    EXPECT_EQ(std::signal(signal, before), SIG_IGN);
  }
}

}  // namespace
}  // namespace filigree
