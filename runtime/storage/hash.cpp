#include "runtime/storage/hash.hpp"

// Compiled here, for the vector instructions that this build may use: the library's own binary is
// for the oldest processors.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <new>
#include <vector>

#include "runtime/core/error.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {
namespace {

std::string hex128(XXH128_hash_t value) { return hex(value.high64) + hex(value.low64); }

}  // namespace

struct Hasher128::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  XXH3_state_t* xxh;
};

std::uint64_t hash64(const void* data, std::size_t bytes) { return XXH3_64bits(data, bytes); }

std::string hash128(std::string_view bytes) {
  return hex128(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash128_of_file(const std::filesystem::path& path) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  const PosixFile file = PosixFile::open_for_reading(path);
  const std::int64_t size = file.size();
  std::vector<char> piece(static_cast<std::size_t>(std::min(size, kPiece)));
  Hasher128 hasher;
  for (std::int64_t offset = 0; offset < size; offset += kPiece) {
    const std::int64_t bytes = std::min(kPiece, size - offset);
    file.read_at(offset, piece.data(), bytes);
    hasher.update(piece.data(), static_cast<std::size_t>(bytes));
  }
  return hasher.digest();
}

std::string hex(std::uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, value >>= 4)
    text[static_cast<std::size_t>(i)] = kDigits[value & 15];
  return text;
}

Hasher128::Hasher128() : state_(std::make_unique<State>()) {}
Hasher128::~Hasher128() = default;
Hasher128::Hasher128(Hasher128&&) noexcept = default;
Hasher128& Hasher128::operator=(Hasher128&&) noexcept = default;

void Hasher128::update(const void* data, std::size_t bytes) {
  XXH3_128bits_update(state_->xxh, data, bytes);
}

std::string Hasher128::digest() const { return hex128(XXH3_128bits_digest(state_->xxh)); }

}  // namespace filigree
