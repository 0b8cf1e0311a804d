// Markers that let one header serve g++ (host) and nvcc (host and device).
#pragma once

#ifdef __CUDACC__
#define MCLREC_HD __host__ __device__ __forceinline__
#else
#define MCLREC_HD inline
#endif
