#include "runtime/core/dtype.hpp"

#include <array>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

struct Entry {
  std::string_view name;
  std::int64_t size;
};
constexpr std::array<Entry, 8> kEntries = {{{"f64", 8},
                                            {"f32", 4},
                                            {"bf16", 2},
                                            {"f16", 2},
                                            {"i64", 8},
                                            {"i32", 4},
                                            {"u16", 2},
                                            {"u8", 1}}};

}  // namespace

std::int64_t size_of(DType dtype) { return kEntries[static_cast<std::size_t>(dtype)].size; }
std::string_view name_of(DType dtype) { return kEntries[static_cast<std::size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kEntries.size(); ++i)
    if (kEntries[i].name == name) return static_cast<DType>(i);
  throw UserError(str("unknown dtype '", name, "'; allowed: f64 f32 bf16 f16 i64 i32 u16 u8"));
}

bool is_floating(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}

DType accumulation_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace filigree
