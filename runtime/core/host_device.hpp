// Marks functions that device code calls too.
#pragma once

#ifdef __CUDACC__
#define FILIGREE_HOST_DEVICE __host__ __device__
#else
#define FILIGREE_HOST_DEVICE
#endif
