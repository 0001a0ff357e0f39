#include "runtime/training/config.hpp"

#include <gtest/gtest.h>

#include "runtime/core/error.hpp"
#include "runtime/training/trainer.hpp"
#include "tests/harness/tiny_model.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree {
namespace {

using testing::user_error;

TEST(ForcedKernels, AreReadFromAList) {
  const auto forced = parse_forced_kernels("adamw=reference,*=reference");
  ASSERT_EQ(forced.size(), 2u);
  EXPECT_EQ(forced.at("adamw"), "reference");
  EXPECT_EQ(forced.at("*"), "reference");
  EXPECT_TRUE(parse_forced_kernels("").empty());
}

TEST(ForcedKernels, RefuseWhatDoesNotExist) {
  EXPECT_NE(
      user_error([] { parse_forced_kernels("adamv=reference"); }).find("did you mean 'adamw'"),
      std::string::npos);
  EXPECT_NE(user_error([] { parse_forced_kernels("adamw=fast"); }).find("there is: reference"),
            std::string::npos);
  EXPECT_NE(user_error([] { parse_forced_kernels("adamw"); }).find("expected op=implementation"),
            std::string::npos);
}

TEST(Resolve, DerivesDataParallelismAndRefusesRanksLeftOver) {
  RunConfig config;
  config.model = testing::tiny_config();
  config.parallel.tensor = 2;
  EXPECT_EQ(resolve(config, 6, 0).parallel.data, 3);
  EXPECT_NE(user_error([&] { resolve(config, 5, 0); }).find("does not divide the 5 ranks"),
            std::string::npos);
  config.parallel.tensor = 3;
  EXPECT_NE(user_error([&] { resolve(config, 3, 0); }).find("model.heads = 4 cannot be split"),
            std::string::npos);
  config.parallel.tensor = 1;
  config.model.vocabulary = 5;
  EXPECT_NE(user_error([&] { resolve(config, 1, 13); }).find("the tokenizer has 13 entries"),
            std::string::npos);
}

}  // namespace
}  // namespace filigree
