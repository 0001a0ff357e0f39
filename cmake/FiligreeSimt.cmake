# filigree_simt_library(name [OBJECT] SOURCES a.cu b.cpp ... DEPENDS libraries...)
#
# A static library, or one of objects, of CUDA sources compiled as C++ for the emulator in tests/harness/simt. The
# compiler's ThreadSanitizer instrumentation reports each load and store to the emulator, which takes the place of libtsan;
# under AddressSanitizer that one instruments instead.
function(filigree_simt_library name)
  cmake_parse_arguments(ARG "OBJECT" "" "SOURCES;DEPENDS" ${ARGN})
  set(kind STATIC)
  if(ARG_OBJECT)
    set(kind OBJECT)
  endif()
  add_library(${name} ${kind} ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC filigree_simt ${ARG_DEPENDS})
  set(cuda ${ARG_SOURCES})
  list(FILTER cuda INCLUDE REGEX "\\.cu$")
  if(cuda)
    set_source_files_properties(${cuda} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  endif()
  # `#pragma unroll` is for nvcc.
  target_compile_options(${name} PRIVATE -Wno-unknown-pragmas)
  if(NOT FILIGREE_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=thread)
  endif()
endfunction()
