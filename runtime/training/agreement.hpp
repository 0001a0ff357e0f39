// Ranks that must come to the same conclusion before they go on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "parallel/communicator.hpp"
#include "runtime/core/error.hpp"

namespace filigree {

// A UserError that every rank throws with the same message: one of them prints it and all can leave
// in order, where an error of one rank has to end the job by force.
class AgreedError : public UserError {
 public:
  using UserError::UserError;
};

// Every rank runs `body`, which must not communicate. When any throws UserError, all throw the
// AgreedError of the lowest such rank, which names the rank unless it is the first. Collective.
void agree(Communicator& world, const std::function<void()>& body);

// The same for work that only rank 0 does.
void agree_on_first(Communicator& world, const std::function<void()>& body);

// The same for work that may take longer than a collective may: the others ask again and again
// whether it is done.
void agree_on_first_at_length(Communicator& world, const std::function<void()>& body);

// Whether `value` is true on any rank. Collective.
bool any_rank(Communicator& world, bool value);

// Rank `root`'s text, on every rank. Collective.
std::string broadcast_text(Communicator& world, const std::string& text, int root);

}  // namespace filigree
