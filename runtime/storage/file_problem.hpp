// What is wrong with a file that may come from a stranger.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/core/error.hpp"

namespace filigree {

class FileProblem {
 public:
  // Errors begin with "FORMAT file PATH: ".
  FileProblem(std::string_view format, const std::filesystem::path& path)
      : where_(str(format, " file ", path.string(), ": ")) {}

  // Throw UserError; a long message is cut and control characters are replaced, since what it
  // quotes is the file's.
  template <class... What>
  [[noreturn]] void fail(const What&... what) const {
    throw UserError(where_ + printable(str(what...)));
  }
  template <class... What>
  void require(bool fits, const What&... what) const {
    if (!fits) fail(what...);
  }
  // A name that can be printed: other messages may then quote it.
  void require_name(std::string_view name, std::string_view kind) const {
    require(name.size() <= kLongestName, kind, " has a name of ", name.size(), " bytes, at most ",
            kLongestName, " are read");
    require(std::none_of(name.begin(), name.end(), is_control), kind,
            " has a control character in its name");
  }

 private:
  static constexpr std::size_t kLongestName = 512, kLongestMessage = 1000;
  static bool is_control(char byte) {
    return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f;
  }
  static std::string printable(std::string text) {
    if (text.size() > kLongestMessage) text.replace(kLongestMessage, std::string::npos, " ...");
    std::replace_if(text.begin(), text.end(), is_control, '?');
    return text;
  }

  std::string where_;
};

}  // namespace filigree
