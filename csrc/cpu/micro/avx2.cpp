// The inner loops for processors with AVX2 and FMA; compile flags in CMakeLists.txt.
#define BBS_ISA "avx2"
#define BBS_ISA_TABLE(type) kernels_avx2_##type
#include "kernels.inl"
