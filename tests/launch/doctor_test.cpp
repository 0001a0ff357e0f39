#include "launch/commands/doctor.hpp"

#include <gtest/gtest.h>

#include <set>

namespace filigree {
namespace {

using Status = Finding::Status;

TEST(ExamineLibrary, LaterOnesOfOneMajorVersionFit) {
  EXPECT_EQ(examine_library({"X", "1.10.8", "1.10.8"}).status, Status::ok);
  EXPECT_EQ(examine_library({"X", "1.10.8", "1.10.8"}).found, "1.10.8");
  const Finding later = examine_library({"X", "1.10.8", "1.11.0"});
  EXPECT_EQ(later.status, Status::ok);
  EXPECT_EQ(later.found, "1.11.0, built with 1.10.8");
  EXPECT_EQ(examine_library({"X", "Open MPI v4.1.4", "Open MPI v4.1.10"}).status, Status::ok);
}

TEST(ExamineLibrary, OlderOnesAndOtherMajorVersionsAreBroken) {
  for (const auto& [built, loaded] :
       {std::pair{"1.10.8", "1.10.7"}, {"2.0.0", "3.0.0"}, {"1.10.8", "1.9.9"}}) {
    const Finding finding = examine_library({"X", built, loaded});
    EXPECT_EQ(finding.status, Status::broken) << built << ' ' << loaded;
    EXPECT_NE(finding.hint.find(built), std::string::npos);
  }
}

TEST(ExamineDriver, IsMissingOrTooOldOrFine) {
  EXPECT_EQ(examine_driver(0, 13000).status, Status::missing);
  EXPECT_EQ(examine_driver(13010, 13000).status, Status::ok);
  const Finding old = examine_driver(12040, 13000);
  EXPECT_EQ(old.status, Status::broken);
  EXPECT_EQ(old.found, "for CUDA 12.4");
  EXPECT_EQ(old.hint.find("this build needs 13.0: install a newer driver"), 0u) << old.hint;
}

TEST(Examine, NamesEverythingOnceWithAHintWhereItIsNotFine) {
  MpiEnvironment mpi(nullptr, nullptr);
  std::set<std::string> names;
  for (const Finding& finding : examine({mpi, self_communicator("world")})) {
    EXPECT_TRUE(names.insert(finding.name).second) << finding.name;
    EXPECT_NE(finding.found, "");
    EXPECT_EQ(finding.hint.empty(), finding.status == Status::ok) << finding.name;
    EXPECT_NE(finding.status, Status::broken) << finding.name;
  }
  EXPECT_EQ(names, (std::set<std::string>{"filigree", "processor", "threads", "memory", "MPI",
                                          "HDF5", "oneDNN", "CUDA"}));
}

}  // namespace
}  // namespace filigree
