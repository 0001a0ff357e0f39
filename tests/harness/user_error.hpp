#pragma once

#include <string>

#include "runtime/core/error.hpp"

namespace filigree::testing {

constexpr char kNoUserError[] = "no UserError was thrown";

// The message of the UserError that `body` throws.
template <class Body>
std::string user_error(const Body& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return kNoUserError;
}

}  // namespace filigree::testing
