# filigree_simt_library(name [OBJECT] [ADDRESS] SOURCES a.cu b.cpp ... DEPENDS libraries...)
#
# A static library, or one of objects, of CUDA sources compiled as C++ for the emulator in tests/harness/simt. The
# compiler's ThreadSanitizer instrumentation reports each load and store to the emulator, which takes the place of libtsan;
# under AddressSanitizer, of the whole build (FILIGREE_SANITIZE) or of this library (ADDRESS), that one instruments instead.
function(filigree_simt_library name)
  cmake_parse_arguments(ARG "OBJECT;ADDRESS" "" "SOURCES;DEPENDS" ${ARGN})
  set(kind STATIC)
  if(ARG_OBJECT)
    set(kind OBJECT)
  endif()
  add_library(${name} ${kind} ${ARG_SOURCES})
  set(emulator filigree_simt)
  if(ARG_ADDRESS AND NOT FILIGREE_SANITIZE)
    set(emulator filigree_simt_address)
  endif()
  target_link_libraries(${name} PUBLIC ${emulator} ${ARG_DEPENDS})
  set(cuda ${ARG_SOURCES})
  list(FILTER cuda INCLUDE REGEX "\\.cu$")
  if(cuda)
    set_source_files_properties(${cuda} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  endif()
  # `#pragma unroll` is for nvcc.
  target_compile_options(${name} PRIVATE -Wno-unknown-pragmas)
  if(emulator STREQUAL filigree_simt AND NOT FILIGREE_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=thread)
  endif()
endfunction()
