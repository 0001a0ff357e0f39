// XXH3 hashes of bytes and files. They find damage and mix-ups; they do not resist an attacker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace filigree {

// XXH3-64, seed 0: the checksum of data blocks.
std::uint64_t hash64(const void* data, std::size_t bytes);

// XXH3-128, seed 0, as 32 lower-case hex digits: the identity of files and tensors.
std::string hash128(std::string_view bytes);
std::string hash128_of_file(const std::filesystem::path& path);

// 16 lower-case hex digits.
std::string hex(std::uint64_t value);

// hash128 of bytes that come in pieces.
class Hasher128 {
 public:
  Hasher128();
  ~Hasher128();
  Hasher128(Hasher128&&) noexcept;
  Hasher128& operator=(Hasher128&&) noexcept;

  void update(const void* data, std::size_t bytes);
  // Of everything so far; more may follow.
  std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filigree
