// For the oldest processor that is supported: AVX2 on x86-64 (every file is compiled for it), NEON
// on arm64.
#include "kernels/cpu/tile_kernels.hpp"

#define FILIGREE_TILE_ISA portable
#if defined(__AVX__)
#define FILIGREE_TILE_VECTOR_BYTES 32
#define FILIGREE_TILE_ROWS 6
#else
#define FILIGREE_TILE_VECTOR_BYTES 16
#define FILIGREE_TILE_ROWS 8
#endif
#include "kernels/cpu/tile_kernels.inl"
