#include "data_pipeline/importer.hpp"

#include <set>

#include "data_pipeline/utf8.hpp"
#include "tests/data_pipeline/test_support.hpp"

namespace filigree {
namespace {

using test::mentions;
using test::user_error;

class ImporterTest : public testing::FolderTest {
 protected:
  // Every document of the file, pieces joined.
  static std::vector<std::string> documents(const std::filesystem::path& path,
                                            const ImportOptions& options = {},
                                            std::int64_t* replaced = nullptr) {
    const InputFile file = list_inputs({path.string()}, {}).at(0);
    const auto importer = file.importer->open(file.path, file.shown, options);
    std::vector<std::string> result;
    bool open = false;
    for (TextPiece piece; importer->next(piece);) {
      if (!open) result.emplace_back();
      result.back() += piece.text;
      open = !piece.ends_document;
      EXPECT_EQ(utf8_valid_prefix(piece.text), piece.text.size()) << "piece cut inside a character";
    }
    EXPECT_FALSE(open) << "the last document did not end";
    EXPECT_EQ(importer->bytes_read(), file.bytes);
    if (replaced != nullptr) *replaced = importer->replaced_bytes();
    return result;
  }
};

TEST_F(ImporterTest, ATextFileIsOneDocumentByteForByte) {
  for (const std::string text : {"one line", "one\ntwo\n", "\n\n  x\r\n\ty ", "a\n\n\n"}) {
    EXPECT_EQ(documents(write("a.txt", text)), std::vector<std::string>{text});
  }
  EXPECT_TRUE(documents(write("empty.txt", "")).empty());
  EXPECT_EQ(documents(write("bom.txt", "\xEF\xBB\xBFtext")), std::vector<std::string>{"text"});
}

TEST_F(ImporterTest, LongLinesAndMultibyteCharactersSurviveTheBufferBorders) {
  std::string text = "x";  // puts the three-byte characters at every phase of the buffers
  while (text.size() < 900'000) text += "\xE6\xBC\xA2";
  text += "\nshort\n";
  while (text.size() < 1'500'000) text += "some words \xF0\x9F\x98\x80 in a line\n";
  const auto found = documents(write("long.txt", text));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0] == text);
}

TEST_F(ImporterTest, ASeparatorBeginsADocument) {
  const auto path = write("s.txt", "preface\n# one\na\nb # two\n# three\n# four\nend");
  EXPECT_EQ(
      documents(path, {.document_separator = "# "}),
      (std::vector<std::string>{"preface\n", "# one\na\nb # two\n", "# three\n", "# four\nend"}));
  EXPECT_EQ(documents(write("t.txt", "# one\na\n"), {.document_separator = "# "}),
            std::vector<std::string>{"# one\na\n"});
}

TEST_F(ImporterTest, LinesAreCountedPerDocument) {
  const auto path = write("l.txt", "1\n\n3\n4\n5");
  EXPECT_EQ(documents(path, {.document_lines = 2}),
            (std::vector<std::string>{"1\n\n", "3\n4\n", "5"}));
  const std::string long_line(200'000, 'z');  // several pieces, one line
  EXPECT_EQ(documents(write("m.txt", long_line + "\nb\n"), {.document_lines = 1}),
            (std::vector<std::string>{long_line + "\n", "b\n"}));
}

TEST_F(ImporterTest, ParagraphsAreCountedPerDocumentAndKeepTheirBlankLines) {
  const auto path = write("p.txt", "\na\na\n\nb\n \t\n\nc\n\nd\nd\n\ne\n");
  EXPECT_EQ(documents(path, {.document_paragraphs = 2}),
            (std::vector<std::string>{"\na\na\n\nb\n \t\n\n", "c\n\nd\nd\n\n", "e\n"}));
}

TEST_F(ImporterTest, InvalidUtf8NamesFileLineAndByte) {
  const auto path = write("bad.txt",
                          "fine\nalso f\xC3\xA9ne\nb\xFF"
                          "d \xC3(\n");
  EXPECT_TRUE(
      mentions(user_error([&] { documents(path); }),
               {"bad.txt:3:", "byte 0xff", "byte 2 of the line", "--invalid-utf8 replace"}));
  std::int64_t replaced = 0;
  EXPECT_EQ(documents(path, {.invalid_utf8 = InvalidUtf8::replace}, &replaced),
            std::vector<std::string>{"fine\nalso f\xC3\xA9ne\nb\xEF\xBF\xBD"
                                     "d \xEF\xBF\xBD(\n"});
  EXPECT_EQ(replaced, 2);
  std::string far(150'000, 'a');
  far += '\xFE';
  EXPECT_TRUE(mentions(user_error([&] { documents(write("far.txt", far)); }),
                       {"far.txt:1:", "byte 150001 of the line"}));
  EXPECT_TRUE(mentions(user_error([&] { documents(write("cut.txt", "ok\n\xE6\xBC")); }),
                       {"cut.txt:2:", "byte 1 of the line"}));
}

TEST_F(ImporterTest, JsonLinesTakeOneFieldOfEveryObject) {
  const auto path =
      write("d.jsonl",
            "{\"text\": \"a\\nb \\u6f22\", \"id\": 1}\n\n  \n{\"id\":2,\"text\":\"\"}\r\n"
            "{\"text\":\"last\"}");
  EXPECT_EQ(documents(path), (std::vector<std::string>{"a\nb \xE6\xBC\xA2", "", "last"}));
  EXPECT_EQ(documents(write("e.jsonl", "{\"body\":\"x\"}\n"), {.text_field = "body"}),
            std::vector<std::string>{"x"});
}

TEST_F(ImporterTest, JsonErrorsNameFileAndLine) {
  const auto error_of = [&](const std::string& line) {
    return user_error([&] { documents(write("f.jsonl", "{\"text\":\"ok\"}\n" + line + "\n")); });
  };
  EXPECT_TRUE(mentions(error_of("{\"text\": \"unfinished"), {"f.jsonl:2:", "not JSON"}));
  EXPECT_TRUE(mentions(error_of("[1, 2]"), {"f.jsonl:2:", "array"}));
  EXPECT_TRUE(
      mentions(error_of("{\"texts\": \"a\"}"), {"f.jsonl:2:", "'text'", "did you mean 'texts'"}));
  EXPECT_TRUE(mentions(error_of("{\"text\": 5}"), {"f.jsonl:2:", "number, not a string"}));
  EXPECT_TRUE(mentions(error_of("{\"text\": \"\\ud800\"}"), {"f.jsonl:2:", "not JSON"}));
  EXPECT_TRUE(mentions(error_of("{\"text\": \"\xFF\"}"), {"f.jsonl:2:", "invalid UTF-8"}));
}

TEST_F(ImporterTest, FoldersAreReadInOrderOfTheirPaths) {
  write("c/b.txt", "1");
  write("c/a/z.md", "2");
  write("c/a.rst", "3");
  write("c/skipped.html", "4");
  write("c/d.jsonl", "{}");
  const auto files = list_inputs({(folder_ / "c").string()}, {".txt", ".rst", ".md", ".jsonl"});
  std::vector<std::string> names;
  for (const InputFile& file : files) {
    names.push_back(std::filesystem::relative(file.path, folder_).string());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"c/a/z.md", "c/a.rst", "c/b.txt", "c/d.jsonl"}));
  EXPECT_EQ(files[0].importer->name, "text");
  EXPECT_EQ(files[3].importer->name, "jsonl");
  EXPECT_EQ(files[2].bytes, 1);
  EXPECT_EQ(list_inputs({(folder_ / "c/skipped.html").string()}, {}).at(0).importer->name, "text");
}

TEST_F(ImporterTest, InputsThatAreNotThereAreNamed) {
  EXPECT_TRUE(mentions(user_error([&] { list_inputs({(folder_ / "absent").string()}, {".txt"}); }),
                       {"absent", "no such file or folder"}));
  write("g/a.html", "x");
  EXPECT_TRUE(mentions(user_error([&] {
                         list_inputs({(folder_ / "g").string()}, {".txt", ".md"});
                       }),
                       {"/g", ".txt, .md", "--extensions"}));
}

// The registry must list what the folder holds.
TEST_F(ImporterTest, EveryImporterOfTheFolderIsRegistered) {
  std::set<std::string> registered, found;
  for (const ImporterEntry& entry : importers()) registered.emplace(entry.name);
  const auto here = std::filesystem::path(__FILE__).parent_path();
  for (const auto& entry :
       std::filesystem::directory_iterator(here / "../../data_pipeline/importers")) {
    if (entry.path().extension() == ".cpp") found.insert(entry.path().stem().string());
  }
  EXPECT_EQ(registered, found) << "add the missing line to data_pipeline/registry.cpp";
}

}  // namespace
}  // namespace filigree
