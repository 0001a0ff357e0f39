# The CUDA backend: the GPUs of runtime/cuda, what computes or communicates on them, and their line in the tables of the
# folders above. It is compiled twice at most, by nvcc (FiligreeCuda.cmake: filigree_cuda_backend) and by the C++ compiler
# for the emulator of the tests (tests/simt: filigree_cuda_simt), each time into objects. An executable that links one of
# them has the backend; the others take the `without_cuda.cpp` of the same folders from the libraries, which say that there
# is none. No library needs to know which it will be.
#
#   FILIGREE_CUDA_HOST_SOURCES  C++ on the CUDA runtime and the libraries' APIs
#   FILIGREE_CUDA_KERNELS       .cu
file(GLOB FILIGREE_CUDA_HOST_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/cuda/cuda_*.cpp
     ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cpp ${CMAKE_SOURCE_DIR}/kernels/*/*_cublaslt.cpp ${CMAKE_SOURCE_DIR}/parallel/nccl_*.cpp)
file(GLOB_RECURSE FILIGREE_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*_cuda.cu)
