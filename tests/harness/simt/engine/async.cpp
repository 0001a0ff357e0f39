#include "tests/harness/simt/engine/async.hpp"

namespace simt {
namespace {

std::string place_of(std::uint32_t address) {
  return "the mbarrier at byte " + std::to_string(address) + " of shared memory";
}

}  // namespace

std::string AsyncState::leftover() const {
  if (!transfers.empty())
    return std::to_string(transfers.size()) + " copies of boxes that have not landed";
  for (std::size_t id = 1; id < named.size(); ++id)
    if (named[id].arrived > 0)
      return std::to_string(named[id].arrived) + " threads of " +
             std::to_string(named[id].expected) + " arrived at named barrier " + std::to_string(id);
  std::int64_t registers = 0;
  for (std::size_t w = 0; w < warps.size(); ++w) {
    registers += std::int64_t{32} * warps[w].registers;
    if (warps[w].registers != warps[w / 4 * 4].registers)
      return "warps of one warpgroup with " + std::to_string(warps[w / 4 * 4].registers) + " and " +
             std::to_string(warps[w].registers) + " registers of setmaxnreg";
    if (warps[w].count != warps[w / 4 * 4].count)
      return "warps of one warpgroup that have issued " + std::to_string(warps[w / 4 * 4].count) +
             " and " + std::to_string(warps[w].count) + " wgmma";
  }
  if (registers > 65536)
    return std::to_string(registers) + " registers from setmaxnreg; a multiprocessor has 65536";
  return {};
}

std::string AsyncState::describe_mbarriers() const {
  std::string text;
  for (const auto& [address, barrier] : mbarriers) {
    if (barrier.missing == barrier.arrivals && barrier.bytes == 0) continue;
    text += "; phase " + std::to_string(barrier.phase) + " of " + place_of(address) + " lacks " +
            std::to_string(barrier.missing) + " arrivals and " + std::to_string(barrier.bytes) +
            " bytes";
  }
  return text;
}

}  // namespace simt
