#include "runtime/core/error.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace filigree {
namespace {

TEST(Error, CodesSayWhoMustAct) {
  EXPECT_EQ(UserError("x").code(), 2);
  EXPECT_EQ(InternalError("x").code(), 70);
  EXPECT_EQ(PeerFailed("x", 3).code(), 76);
  EXPECT_EQ(PeerFailed("x", 3).rank(), 3);
  EXPECT_EQ(CollectiveTimeout("x").code(), 76);
}

TEST(Error, CheckReportsExpressionPlaceAndValues) {
  const int heads = 7;
  try {
    FILIGREE_CHECK(heads % 2 == 0, "heads is ", heads);
    FAIL() << "the check passed";
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("heads % 2 == 0"), std::string::npos) << text;
    EXPECT_NE(text.find("error_test.cpp:"), std::string::npos) << text;
    EXPECT_NE(text.find("heads is 7"), std::string::npos) << text;
  }
}

TEST(Error, CheckEqPrintsBothSidesAndEvaluatesThemOnce) {
  int calls = 0;
  const auto next = [&] { return ++calls; };
  try {
    FILIGREE_CHECK_EQ(next(), 5, "calls");
    FAIL() << "the check passed";
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("1 != 5 calls"), std::string::npos) << error.what();
  }
  EXPECT_EQ(calls, 1);
}

TEST(ErrorContext, FramesAreThoseOpenWhenItWasThrown) {
  std::vector<std::string> frames;
  std::string text;
  const ErrorContext outer("step 12");
  try {
    const ErrorContext inner(str("layer ", 3, " attention"));
    throw UserError("bad value");
  } catch (const Error& error) {
    frames = error.frames();
    text = error.with_context();
  }
  EXPECT_EQ(frames, (std::vector<std::string>{"step 12", "layer 3 attention"}));
  EXPECT_EQ(text, "bad value (in step 12, layer 3 attention)");
  EXPECT_EQ(UserError("later").frames(), std::vector<std::string>{"step 12"});
}

TEST(ErrorContext, FramesBelongToTheirThread) {
  const ErrorContext frame("main thread");
  std::thread([] { EXPECT_TRUE(UserError("x").frames().empty()); }).join();
}

TEST(NearestName, FindsTyposAndRefusesStrangers) {
  const std::vector<std::string> names = {"train.steps", "train.seed", "parallel.tensor",
                                          "model.width"};
  EXPECT_EQ(nearest_name("train.step", names), "train.steps");
  EXPECT_EQ(nearest_name("parallel.tensr", names), "parallel.tensor");
  EXPECT_EQ(nearest_name("modle.width", names), "model.width");
  EXPECT_EQ(nearest_name("zebra", names), "");
  EXPECT_EQ(nearest_name("seed", {}), "");
}

}  // namespace
}  // namespace filigree
