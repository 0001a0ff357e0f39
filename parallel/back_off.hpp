// Private to this folder: how a rank waits that has to look again and again.
#pragma once

#include <chrono>

namespace filigree {

// Between two looks, `waited` after the first. Ranks may be more than cores: the first milliseconds
// give the core away at once, later ones sleep, so that a long wait costs nothing.
void back_off(std::chrono::steady_clock::duration waited);

}  // namespace filigree
