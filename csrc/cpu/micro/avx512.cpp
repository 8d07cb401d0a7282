// The inner loops for processors with AVX-512 F, DQ, BW and VL; compile flags in CMakeLists.txt.
#define BBS_ISA "avx512"
#define BBS_ISA_TABLE(type) kernels_avx512_##type
#include "kernels.inl"
