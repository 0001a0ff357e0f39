// Versions of the libraries that the program stands on, for `filigree doctor`.
#pragma once

#include <string>

namespace filigree {

struct LibraryVersion {
  std::string name;
  std::string built;   // what this program was compiled against: "1.10.8"
  std::string loaded;  // what it runs with
};

}  // namespace filigree
