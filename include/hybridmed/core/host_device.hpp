#pragma once
// Marks small functions that kernels call as well as the host.
#ifdef __CUDACC__
#define HYBRIDMED_HOST_DEVICE __host__ __device__
#else
#define HYBRIDMED_HOST_DEVICE
#endif
