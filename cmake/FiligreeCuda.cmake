# The CUDA backend through nvcc, included where FILIGREE_CUDA is ON or AUTO: the toolkit and the compiler, the
# architectures, and what is linked. The program links without a GPU or its driver on the machine.
#
#   FILIGREE_HAS_CUDA            whether it is built: with AUTO only where everything that it needs is found
#   FILIGREE_CUDA_ARCHITECTURES  compute capabilities, e.g. 80;90a; what the backend may be asked to run on
#   filigree_cuda_backend        the objects, for executables (FiligreeCudaBackend.cmake)
#   FILIGREE_HAS_CUDNN           whether cuDNN's attention is in it (FILIGREE_CUDNN)
#   FILIGREE_CUDA_SUMMARY        lines of the table that the configure step prints, "name|what was found"

set(FILIGREE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "Compute capabilities to compile for, of 80, 86, 89, 90a, 100a ...")
set(FILIGREE_HAS_CUDA FALSE)

# Ends the configure step where FILIGREE_CUDA is ON, and leaves CUDA out where it is AUTO.
function(filigree_without_cuda reason hint)
  if(NOT FILIGREE_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "FILIGREE_CUDA is ${FILIGREE_CUDA}, but ${reason}. ${hint}")
  endif()
  message(WARNING "The CUDA backend is left out (FILIGREE_CUDA is AUTO): ${reason}. ${hint}")
  set(FILIGREE_CUDA_SUMMARY "CUDA|left out: ${reason}" PARENT_SCOPE)
endfunction()

find_package(CUDAToolkit 12.5 QUIET)
if(NOT CUDAToolkit_FOUND OR NOT TARGET CUDA::cublasLt)
  filigree_without_cuda("the CUDA toolkit (12.5 or newer, with cuBLASLt) was not found"
                        "On Debian or Ubuntu: apt-get install nvidia-cuda-toolkit, or NVIDIA's own cuda-toolkit-13-0")
  return()
endif()
find_package(NCCL 2.18 QUIET)
if(NOT NCCL_FOUND)
  filigree_without_cuda("NCCL (2.18 or newer) was not found"
                        "On Debian or Ubuntu: apt-get install libnccl-dev, from NVIDIA's repository; NCCL_ROOT names a folder")
  return()
endif()

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
  # The intermediate code beside it is for later architectures, which compile it when the program starts, and for
  # tests/cuda, which looks into it. With a letter there are no later ones.
  if(architecture MATCHES "[a-z]$" AND NOT FILIGREE_TESTS)
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
  else()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture})
  endif()
endforeach()

set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(FILIGREE_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${FILIGREE_CCACHE})
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  filigree_without_cuda("${CUDAToolkit_NVCC_EXECUTABLE} compiles no program with ${CMAKE_CXX_COMPILER}"
                        "Name a host compiler that it supports with CUDAHOSTCXX")
  return()
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
# nvcc has had it since 12.0, CMake up to 3.25 does not know.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
if(FILIGREE_WERROR)
  target_compile_options(filigree_flags INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
endif()

add_library(filigree_cuda_backend OBJECT ${FILIGREE_CUDA_HOST_SOURCES} ${FILIGREE_CUDA_KERNELS})
target_link_libraries(filigree_cuda_backend PUBLIC filigree_kernels filigree_parallel filigree_cuda CUDA::cudart_static
                      CUDA::cublasLt NCCL::NCCL)
list(JOIN FILIGREE_CUDA_ARCHITECTURES "," architectures)
set_source_files_properties(runtime/cuda/cuda_libraries.cpp PROPERTIES
                            COMPILE_DEFINITIONS FILIGREE_CUDA_ARCHITECTURES="${architectures}")
# What the host may ask of kernels that have a body for this architecture only.
if("90a" IN_LIST FILIGREE_CUDA_ARCHITECTURES)
  set_source_files_properties(kernels/attention/attention_forward_hopper_cuda.cu PROPERTIES COMPILE_DEFINITIONS FILIGREE_HOPPER)
endif()
set(FILIGREE_HAS_CUDA TRUE)

# cuDNN stands apart: the backend is complete without it.
set(FILIGREE_HAS_CUDNN FALSE)
set(cudnn "off (FILIGREE_CUDNN)")
if(FILIGREE_CUDNN)
  find_package(CUDNN 9.8 QUIET)
  set(FILIGREE_HAS_CUDNN ${CUDNN_FOUND})
  if(CUDNN_FOUND)
    set(cudnn "${CUDNN_VERSION} (${CUDNN_LIBRARY}), frontend ${CUDNN_FRONTEND_VERSION} (${CUDNN_FRONTEND_INCLUDE_DIR})")
    target_sources(filigree_cuda_backend PRIVATE kernels/attention/attention_cudnn.cpp)
    target_link_libraries(filigree_cuda_backend PUBLIC CUDNN::CUDNN)
  elseif(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY AND NOT CUDNN_FRONTEND_INCLUDE_DIR)
    set(cudnn "left out: cudnn_frontend.h was not found (pip install --target build/cudnn_frontend --no-deps \
nvidia-cudnn-frontend, or name its folder in CUDNN_FRONTEND_ROOT)")
  else()
    set(cudnn "left out: cuDNN (9.8 or newer) was not found (CUDNN_ROOT names its folder)")
  endif()
  if(NOT CUDNN_FOUND AND NOT FILIGREE_CUDNN STREQUAL "AUTO")
    message(FATAL_ERROR "FILIGREE_CUDNN is ${FILIGREE_CUDNN}, but cuDNN is ${cudnn}")
  endif()
endif()

list(TRANSFORM FILIGREE_CUDA_ARCHITECTURES PREPEND "sm_" OUTPUT_VARIABLE architectures)
list(JOIN architectures ", " architectures)
set(FILIGREE_CUDA_SUMMARY
    "CUDA|${CUDAToolkit_VERSION} (${CMAKE_CUDA_COMPILER}) for ${architectures}"
    "cuBLASLt|${CUDA_cublasLt_LIBRARY}"
    "NCCL|${NCCL_VERSION} (${NCCL_LIBRARY})"
    "cuDNN|${cudnn}")
