// What lets one header serve a host compiler, nvcc and NVRTC (which has no standard library headers).
#pragma once

#ifdef __CUDACC_RTC__
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
using uint16_t = unsigned short;
using uint8_t = unsigned char;
#else
#include <cstdint>
#endif

#ifdef __CUDACC__
#define BBS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define BBS_HOST_DEVICE inline
#endif

// The body of a kernel: inlined into the extern "C" entry that kernel_list.h writes for each instantiation, so that its
// argument stays in the parameter space of the entry.
#ifdef __CUDACC__
#define BBS_KERNEL __device__ __forceinline__
#endif
