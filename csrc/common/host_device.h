// Marks functions that host code and kernels share. No other header of this folder needs to know which compiler reads
// it.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define BBS_HD __host__ __device__
#else
#define BBS_HD
#endif
