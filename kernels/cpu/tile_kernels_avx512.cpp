// Compiled with -march=x86-64-v4; see kernels/CMakeLists.txt.
#include "kernels/cpu/tile_kernels.hpp"

#define FILIGREE_TILE_ISA avx512
#define FILIGREE_TILE_VECTOR_BYTES 64
#define FILIGREE_TILE_ROWS 12
#include "kernels/cpu/tile_kernels.inl"
