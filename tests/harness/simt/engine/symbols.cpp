#include "tests/harness/simt/engine/symbols.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>
#include <vector>

namespace simt {
namespace {

// Function symbols of /proc/self/exe, static ones too: begin -> (end, mangled name).
class SymbolTable {
 public:
  SymbolTable() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* base) {
          *static_cast<std::uintptr_t*>(base) = info->dlpi_addr;
          return 1;  // the program itself comes first
        },
        &base_);
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) return;
    void* image = mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (image == MAP_FAILED) return;
    read(static_cast<const char*>(image));
    munmap(image, status.st_size);
  }

  std::string name(std::uintptr_t address) const {
    const std::uintptr_t offset = address - base_;
    auto after = functions_.upper_bound(offset);
    if (after == functions_.begin()) return {};
    const auto& [begin, function] = *std::prev(after);
    return offset < function.first || offset == begin ? function.second : std::string();
  }

 private:
  void read(const char* image) {
    const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
    const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; ++i) {
      if (sections[i].sh_type != SHT_SYMTAB) continue;
      const char* names = image + sections[sections[i].sh_link].sh_offset;
      const auto* symbols = reinterpret_cast<const ElfW(Sym)*>(image + sections[i].sh_offset);
      for (std::size_t s = 0; s < sections[i].sh_size / sizeof(ElfW(Sym)); ++s) {
        if ((symbols[s].st_info & 0xf) != STT_FUNC || symbols[s].st_size == 0) continue;
        functions_.try_emplace(symbols[s].st_value, symbols[s].st_value + symbols[s].st_size,
                               names + symbols[s].st_name);
      }
    }
  }

  std::uintptr_t base_ = 0;
  std::map<std::uintptr_t, std::pair<std::uintptr_t, std::string>> functions_;
};

std::string without_parameters(std::string name) {
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == ')') ++depth;
    if (name[i] == '(' && --depth == 0) {
      name.resize(i);
      break;
    }
  }
  const std::size_t space = name.find(' ');
  if (name.rfind("void ", 0) == 0) name = name.substr(space + 1);
  for (std::size_t at; (at = name.find("(anonymous namespace)::")) != std::string::npos;) {
    name.erase(at, 23);
  }
  return name;
}

}  // namespace

std::string function_name(const void* address) {
  static const SymbolTable table;
  const std::string mangled = table.name(reinterpret_cast<std::uintptr_t>(address));
  if (mangled.empty()) {
    std::ostringstream number;
    number << address;
    return number.str();
  }
  int status = 0;
  char* demangled = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : mangled;
  std::free(demangled);
  return status == 0 ? without_parameters(std::move(name)) : name;
}

bool in_static_data(std::uintptr_t address) {
  struct Search {
    std::uintptr_t address;
    bool found;
  } search{address, false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& search = *static_cast<Search*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD &&
              search.address - (info->dlpi_addr + segment.p_vaddr) < segment.p_memsz) {
            search.found = true;
          }
        }
        return search.found ? 1 : 0;
      },
      &search);
  return search.found;
}

AddressRange thread_local_variables() {
  AddressRange range;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& range = *static_cast<AddressRange*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type != PT_TLS || info->dlpi_tls_data == nullptr) continue;
          range.begin = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
          range.end = range.begin + info->dlpi_phdr[i].p_memsz;
        }
        return 1;  // the program itself comes first
      },
      &range);
  return range;
}

}  // namespace simt
