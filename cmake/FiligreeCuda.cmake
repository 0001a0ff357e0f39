# The CUDA backend, included where FILIGREE_CUDA is ON: the toolkit and the compiler, the architectures, and what is
# linked. The program links without a GPU or its driver on the machine.
#
#   FILIGREE_CUDA_ARCHITECTURES  compute capabilities, e.g. 80;90a; what the backend may be asked to run on
#   filigree_cuda_libraries      INTERFACE: headers and libraries; linked PRIVATE by each folder that has CUDA sources
#   FILIGREE_CUDA_SUMMARY        lines of the table that the configure step prints, "name|what was found"

set(FILIGREE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "Compute capabilities to compile for, of 80, 86, 89, 90a, 100a ...")

find_package(CUDAToolkit 12.0)
filigree_require(CUDAToolkit_FOUND "nvidia-cuda-toolkit, or NVIDIA's own cuda-toolkit-13-0"
                 "FILIGREE_CUDA is ON, but the CUDA toolkit (12.0 or newer)")
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
endif()

# nvcc lists the architectures it knows without the letter of those that compile for one only (90a).
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known OUTPUT_STRIP_TRAILING_WHITESPACE)
string(REGEX REPLACE "[ \n]+" ";" known "${known}")
set(CMAKE_CUDA_ARCHITECTURES "")
foreach(architecture ${FILIGREE_CUDA_ARCHITECTURES})
  string(REGEX REPLACE "[a-z]$" "" family ${architecture})
  if(NOT "sm_${family}" IN_LIST known)
    list(JOIN known ", " choices)
    message(FATAL_ERROR "FILIGREE_CUDA_ARCHITECTURES: ${CMAKE_CUDA_COMPILER} does not know sm_${architecture}; it knows ${choices}")
  endif()
  # Others keep the intermediate code beside theirs, which later architectures compile when the program starts.
  if(architecture MATCHES "[a-z]$")
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
  else()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture})
  endif()
endforeach()

set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(FILIGREE_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${FILIGREE_CCACHE})
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
# nvcc has had it since 12.0, CMake up to 3.25 does not know.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()

add_library(filigree_cuda_libraries INTERFACE)
target_link_libraries(filigree_cuda_libraries INTERFACE CUDA::cudart_static CUDA::cublasLt)
target_compile_definitions(filigree_cuda_libraries INTERFACE FILIGREE_HAS_CUDA)

list(TRANSFORM FILIGREE_CUDA_ARCHITECTURES PREPEND "sm_" OUTPUT_VARIABLE architectures)
list(JOIN architectures ", " architectures)
set(FILIGREE_CUDA_SUMMARY
    "CUDA|${CUDAToolkit_VERSION} (${CMAKE_CUDA_COMPILER}) for ${architectures}"
    "cuBLASLt|${CUDA_cublasLt_LIBRARY}")
