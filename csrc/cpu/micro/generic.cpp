// The inner loops for any processor of the target architecture; compile flags in CMakeLists.txt.
#define BBS_ISA "generic"
#define BBS_ISA_TABLE(type) kernels_generic_##type
#include "kernels.inl"
