// Names of functions, for messages.
#pragma once

#include <cstdint>
#include <string>

namespace simt {

// The name (without parameters) of the function of this program that holds `address`, or its
// number.
std::string function_name(const void* address);

// Whether `address` lies in a loaded program or library: code, constants, static variables.
bool in_static_data(std::uintptr_t address);

// The static thread-local variables of the program for the calling thread: [begin, end).
struct AddressRange {
  std::uintptr_t begin = 0, end = 0;
};
AddressRange thread_local_variables();

}  // namespace simt
