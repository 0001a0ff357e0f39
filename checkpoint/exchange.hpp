// Texts between ranks, over collectives that want equal sizes.
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.hpp"

namespace filigree {

// Collective. Every rank's text, in rank order, on every rank.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

}  // namespace filigree
