// For where nothing is to be warned of.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace filigree::testing {

inline void no_warning(const std::string& text) { ADD_FAILURE() << text; }

}  // namespace filigree::testing
