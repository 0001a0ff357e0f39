#include "launch/options.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "runtime/core/error.hpp"
#include "tests/harness/user_error.hpp"

namespace filigree {
namespace {

using testing::user_error;

constexpr Command kCommand{"demo", "Shows options.", "filigree demo --input a", nullptr};

struct Fields {
  std::int64_t steps = 10;
  double rate = 0.1;
  bool tied = true, verbose = false;
  std::string kind = "cosine", path, output;
  std::uint64_t seed = 1;
  int ranks = 1;
  std::vector<std::string> inputs;
};

void add_fields(Options& options, Fields& fields) {
  options.add("output", &fields.output, {.description = "where to write", .unit = "FILE"});
  options.add("input", &fields.inputs, {.description = "what to read", .unit = "FILE"});
  options.add("verbose", &fields.verbose, {.description = "say more"});
  options.add("train.steps", &fields.steps, {.description = "steps", .unit = "steps", .min = 1});
  options.add("train.rate", &fields.rate,
              {.description = "rate", .min = 0, .max = 1, .above_min = true});
  options.add("train.seed", &fields.seed, {.description = "seed"});
  options.add("model.tied", &fields.tied, {.description = "tied"});
  options.add("model.kind", &fields.kind, {.description = "kind", .allowed = {"cosine", "wsd"}});
  options.add("data.path", &fields.path, {.description = "data", .unit = "DIR"});
  options.add("data.ranks", &fields.ranks, {.description = "ranks", .min = 1, .max = 8});
}

Fields parsed(const std::vector<std::string>& arguments, const std::string& file = "") {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  if (!file.empty()) options.set_loader([&] { options.load_text(file, "a.cfg"); });
  EXPECT_TRUE(options.parse(arguments));
  return fields;
}

std::string parse_error(const std::vector<std::string>& arguments, const std::string& file = "") {
  return user_error([&] { parsed(arguments, file); });
}

TEST(Options, SetsEveryTypeFromTheCommandLine) {
  const Fields fields = parsed({"--train.steps",
                                "25",
                                "--train.rate=0.25",
                                "--train.seed",
                                "18446744073709551615",
                                "--model.tied",
                                "false",
                                "--model.kind",
                                "wsd",
                                "--data.path",
                                "/tmp/a b",
                                "--verbose",
                                "--data.ranks",
                                "8",
                                "--input",
                                "x",
                                "--input",
                                "y",
                                "--output",
                                "-"});
  EXPECT_EQ(fields.steps, 25);
  EXPECT_EQ(fields.rate, 0.25);
  EXPECT_EQ(fields.seed, 18446744073709551615u);
  EXPECT_FALSE(fields.tied);
  EXPECT_TRUE(fields.verbose);
  EXPECT_EQ(fields.kind, "wsd");
  EXPECT_EQ(fields.path, "/tmp/a b");
  EXPECT_EQ(fields.ranks, 8);
  EXPECT_EQ(fields.inputs, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(fields.output, "-");
}

TEST(Options, CommandLineWinsOverTheFileAndTheFileOverTheDefault) {
  const std::string file =
      "# a comment\n[train]\nsteps = 7  # why\nrate = 0.5\n\n[ model ]\nkind=wsd\n";
  const Fields fields = parsed({"--train.rate", "0.75"}, file);
  EXPECT_EQ(fields.steps, 7);
  EXPECT_EQ(fields.rate, 0.75);
  EXPECT_EQ(fields.kind, "wsd");
  EXPECT_TRUE(fields.tied);
}

TEST(Options, AnAliasIsTheOptionUnderAnotherNameOnTheCommandLine) {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  options.add_alias("kind", "model.kind");
  options.set_loader([&] { options.load_text("[model]\nkind = cosine\n", "a.cfg"); });
  EXPECT_TRUE(options.parse({"--kind", "wsd"}));
  EXPECT_EQ(fields.kind, "wsd") << "it wins over the file as the option does";
  EXPECT_TRUE(options.given("model.kind"));
  EXPECT_NE(options.help().find("--kind TEXT"), std::string::npos) << options.help();
  EXPECT_EQ(user_error([&] {
              (void)options.parse({"--kind", "wsd", "--model.kind", "wsd"});
            }),
            "command line: model.kind is given twice");
  EXPECT_EQ(
      user_error([&] { options.load_text("kind = wsd\n", "b.cfg"); }).find("unknown key kind"), 9u);
}

TEST(Options, NegativeValuesAreValuesAndNotOptions) {
  EXPECT_EQ(parse_error({"--train.steps", "-3"}),
            "--train.steps -3: must be a whole number of at least 1");
}

TEST(Options, UnknownOptionOffersTheNearestName) {
  EXPECT_EQ(parse_error({"--train.step", "3"}),
            "unknown option --train.step; did you mean --train.steps?");
  EXPECT_EQ(parse_error({"--zzzzzzzzzzzz"}),
            "unknown option --zzzzzzzzzzzz; `filigree demo --help` lists them");
}

TEST(Options, AbbreviationsAreRefused) {
  EXPECT_NE(parse_error({"--train.see", "3"}).find("unknown option --train.see"),
            std::string::npos);
  EXPECT_NE(parse_error({"-v"}).find("unknown option --v"), std::string::npos);
}

TEST(Options, UnknownKeyInAFileNamesTheLine) {
  EXPECT_EQ(parse_error({}, "[train]\n\nstep = 3\n"),
            "a.cfg:3: unknown key train.step; did you mean train.steps?");
  EXPECT_NE(parse_error({}, "output = x\n").find("a.cfg:1: unknown key output"), std::string::npos);
}

TEST(Options, BadNumbersAreRefusedWithWhatIsAllowed) {
  for (const char* bad : {"12x", "", "1e3", "0x10", " 5", "99999999999999999999", "1.0", "nan"})
    EXPECT_EQ(parse_error({"--train.steps", bad}),
              str("--train.steps ", bad, ": must be a whole number of at least 1"))
        << bad;
  for (const char* bad : {"nan", "inf", "0", "1.5", "0.1.2", "-0.5", "1e999"})
    EXPECT_EQ(parse_error({"--train.rate", bad}),
              str("--train.rate ", bad, ": must be a number above 0 and up to 1"))
        << bad;
  EXPECT_EQ(parse_error({"--train.seed", "-1"}), "--train.seed -1: must be a whole number");
  EXPECT_EQ(parse_error({"--data.ranks", "9"}),
            "--data.ranks 9: must be a whole number from 1 to 8");
  EXPECT_EQ(parse_error({"--model.tied", "yes"}), "--model.tied yes: must be true or false");
  EXPECT_EQ(parse_error({"--model.kind", "cosin"}),
            "--model.kind cosin: must be one of cosine, wsd; did you mean 'cosine'?");
}

TEST(Options, ABadValueLeavesTheFieldAlone) {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  EXPECT_THROW((void)options.parse({"--train.steps", "12x", "--train.seed", "5"}), UserError);
  EXPECT_EQ(fields.steps, 10);
  EXPECT_EQ(fields.seed, 5u);
}

TEST(Options, AllProblemsAreReportedTogether) {
  const std::string message = parse_error(
      {"--train.stpes", "3", "--data.path", "x", "--model.tied", "no", "stray", "--output"},
      "[train]\nsteps = 0\nnonsense\nrate = 2\nrate = 0.5\n");
  EXPECT_EQ(message,
            "option --output needs a value\n"
            "unknown option --train.stpes; did you mean --train.steps?\n"
            "unexpected argument 'stray'; options are written --name value\n"
            "a.cfg:3: 'nonsense' is neither '[section]' nor 'key = value'\n"
            "a.cfg:2: train.steps = 0: must be a whole number of at least 1\n"
            "a.cfg:4: train.rate = 2: must be a number above 0 and up to 1\n"
            "a.cfg:5: train.rate is given twice, first at a.cfg:4\n"
            "--model.tied no: must be true or false");
}

TEST(Options, SwitchesTakeNoValue) {
  EXPECT_EQ(parse_error({"--verbose", "true"}),
            "unexpected argument 'true'; options are written --name value");
  EXPECT_EQ(parse_error({"--model.tied"}), "option --model.tied needs a value");
}

TEST(Options, GivenTwiceIsRefusedExceptForLists) {
  EXPECT_EQ(parse_error({"--train.steps", "3", "--train.steps", "4"}),
            "command line: train.steps is given twice");
}

TEST(Options, PositionalAndRequired) {
  std::string directory, output;
  Options options(kCommand);
  options.add_positional("directory", &directory,
                         {.description = "shard folder", .unit = "DIR", .required = true});
  options.add("output", &output, {.description = "where to write", .required = true});
  EXPECT_TRUE(options.parse({"--output", "o", "shards"}));
  EXPECT_EQ(directory, "shards");
  EXPECT_TRUE(options.given("directory"));

  std::string missing;
  Options empty(kCommand);
  empty.add_positional("directory", &missing, {.description = "shard folder", .required = true});
  empty.add("output", &missing, {.description = "where to write", .required = true});
  EXPECT_EQ(user_error([&] { (void)empty.parse({}); }),
            "directory is missing: shard folder; example: filigree demo --input a\n"
            "--output is missing: where to write; example: filigree demo --input a");
}

TEST(Options, ConfigTextReadsBackToTheSameBits) {
  Fields fields;
  fields.rate = 0.1 + 0.2;
  fields.seed = 1ull << 63;
  fields.path = "a/b";
  Options options(kCommand);
  add_fields(options, fields);
  const std::string text = options.config_text();
  EXPECT_EQ(text,
            "[train]\nsteps = 10\nrate = 0.30000000000000004\nseed = 9223372036854775808\n\n"
            "[model]\ntied = true\nkind = cosine\n\n[data]\npath = a/b\nranks = 1\n");
  Fields again;
  Options reader(kCommand);
  add_fields(reader, again);
  reader.load_text(text, "text");
  EXPECT_EQ(again.rate, fields.rate);
  EXPECT_EQ(reader.config_text(), text);
}

TEST(Options, WhatAFileCannotHoldIsRefused) {
  EXPECT_EQ(parse_error({"--data.path", "a#b"}),
            "--data.path a#b: must not contain '#' or a line break");
  EXPECT_EQ(parsed({"--output", "a#b"}).output, "a#b");
}

TEST(Options, MissingFileIsOneClearError) {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  EXPECT_EQ(user_error([&] { options.load_file("no/such.cfg"); }),
            "cannot read the configuration file 'no/such.cfg'; presets are in configs/");
  EXPECT_THROW(options.load_file(std::filesystem::temp_directory_path().string()), UserError);
}

TEST(Options, HelpNamesEveryOptionWithItsDefaultAndOneExample) {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(options.parse({"--train.steps", "bad", "--help"}));
  const std::string help = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(fields.steps, 10);
  EXPECT_NE(help.find("Example:\n  filigree demo --input a\n"), std::string::npos) << help;
  EXPECT_NE(help.find("  --train.steps N             steps [steps] (default 10)\n"),
            std::string::npos)
      << help;
  for (const char* name : {"--output FILE", "--input FILE", "--verbose", "--train.rate X",
                           "--model.tied BOOL", "--model.kind TEXT", "--data.path DIR"})
    EXPECT_NE(help.find(name), std::string::npos) << name << "\n" << help;
}

TEST(Options, ReferencePageListsConfigurationOnly) {
  Fields fields;
  Options options(kCommand);
  add_fields(options, fields);
  const std::string page = options.config_reference();
  EXPECT_NE(page.find("## [train]"), std::string::npos) << page;
  EXPECT_NE(page.find("| `steps` | 10 | steps | a whole number of at least 1 | steps |"),
            std::string::npos)
      << page;
  EXPECT_EQ(page.find("output"), std::string::npos) << page;
}

}  // namespace
}  // namespace filigree
