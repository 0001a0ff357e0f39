#pragma once

#include "runtime/core/library_version.hpp"

namespace filigree {

LibraryVersion onednn_version();

}  // namespace filigree
