# Compiler flags shared by every target, and the one way a folder becomes a library.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

find_program(FILIGREE_CCACHE ccache)
if(FILIGREE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FILIGREE_CCACHE})
endif()

add_library(filigree_flags INTERFACE)
target_include_directories(filigree_flags INTERFACE ${CMAKE_SOURCE_DIR})
# For C and C++; nvcc has a syntax of its own and takes those of its host compiler behind -Xcompiler.
function(filigree_compile_options)
  foreach(option ${ARGN})
    target_compile_options(filigree_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:${option}>
                           $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${option}>)
  endforeach()
endfunction()
filigree_compile_options(-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
# No contraction across statements of host code: the same source line gives the same bits in every kernel variant unless
# the variant asks for fused multiply-add itself.
filigree_compile_options(-ffp-contract=off)
# The oldest x86-64 that is supported has AVX2; newer instructions are chosen at run time.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  filigree_compile_options(-march=x86-64-v3)
endif()
if(FILIGREE_WERROR)
  filigree_compile_options(-Werror)
endif()
if(FILIGREE_SANITIZE STREQUAL "address")
  filigree_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(filigree_flags INTERFACE -fsanitize=address,undefined)
elseif(FILIGREE_SANITIZE STREQUAL "thread")
  filigree_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(filigree_flags INTERFACE -fsanitize=thread)
elseif(FILIGREE_SANITIZE)
  message(FATAL_ERROR "FILIGREE_SANITIZE is '${FILIGREE_SANITIZE}'; allowed: address, thread, empty")
endif()

# filigree_library(core DEPENDS a b PRIVATE c): every .cpp below this folder becomes
# filigree_core. DEPENDS is public and encodes the include direction of CONTRIBUTING.md.
function(filigree_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PRIVATE;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(pattern ${ARG_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX ${pattern})
  endforeach()
  add_library(filigree_${name} STATIC ${sources})
  target_link_libraries(filigree_${name} PUBLIC filigree_flags ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE})
endfunction()
