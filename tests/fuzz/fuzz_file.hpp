// What the fuzz targets share: bytes as a file, and what may come of it.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "runtime/core/error.hpp"

namespace filigree::testing {

// Hands `read` a file of these bytes. It may succeed, or throw a UserError of one line; anything
// else ends the program, which libFuzzer reports with the input.
template <class Read>
int fuzz_file(const std::uint8_t* data, std::size_t size, const Read& read) {
  static const std::filesystem::path file =
      std::filesystem::temp_directory_path() / str("filigree_fuzz_", ::getpid());
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    read(file);
  } catch (const UserError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) {
      std::cerr << "an error of several lines: " << error.what() << '\n';
      std::abort();
    }
  }
  std::filesystem::remove(file);
  return 0;
}

}  // namespace filigree::testing
