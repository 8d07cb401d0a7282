// The inner loops for any processor of the target architecture; compile flags in CMakeLists.txt. Every 64-bit ARM
// processor has NEON, so there they are the NEON loops.
#if defined(__aarch64__)
#define BBS_ISA "neon"
#else
#define BBS_ISA "generic"
#endif
#define BBS_ISA_TABLE(type) kernels_generic_##type
#include "kernels.inl"
