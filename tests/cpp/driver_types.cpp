// csrc/cuda/runtime/driver_types.h and driver.h beside cuda.h: what we declare is what NVIDIA declares. Compiled only
// (tests/build/test_driver_types.py), where cuda.h is installed.
#include <cuda.h>

#include <type_traits>

#include "../../csrc/cuda/runtime/driver.h"

namespace ours = bbs::cuda;

// --- values
constexpr bool same(long long mine, long long theirs) { return mine == theirs; }
static_assert(same(ours::kSuccess, CUDA_SUCCESS));
static_assert(same(ours::kInvalidImage, CUDA_ERROR_INVALID_IMAGE));
static_assert(same(ours::kNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU));
static_assert(same(ours::kUnsupportedPtx, CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
static_assert(same(ours::kCaptureImplicit, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT));
static_assert(same(ours::kMultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
static_assert(same(ours::kComputeMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR));
static_assert(same(ours::kComputeMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
static_assert(same(ours::kSharedPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR));
static_assert(same(ours::kSharedPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN));
static_assert(same(ours::kMaxDynamicShared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES));
static_assert(same(ours::kHostAllocPortableMapped, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
static_assert(same(ours::kCaptureNone, CU_STREAM_CAPTURE_STATUS_NONE));

// --- CUlaunchConfig, member by member
static_assert(sizeof(ours::LaunchConfig) == sizeof(CUlaunchConfig));
static_assert(alignof(ours::LaunchConfig) == alignof(CUlaunchConfig));
#define SAME_MEMBER(mine, theirs)                                                        \
  static_assert(offsetof(ours::LaunchConfig, mine) == offsetof(CUlaunchConfig, theirs)); \
  static_assert(sizeof(ours::LaunchConfig::mine) == sizeof(CUlaunchConfig::theirs))
SAME_MEMBER(grid_x, gridDimX);
SAME_MEMBER(grid_y, gridDimY);
SAME_MEMBER(grid_z, gridDimZ);
SAME_MEMBER(block_x, blockDimX);
SAME_MEMBER(block_y, blockDimY);
SAME_MEMBER(block_z, blockDimZ);
SAME_MEMBER(shared_bytes, sharedMemBytes);
SAME_MEMBER(stream, hStream);
SAME_MEMBER(attributes, attrs);
SAME_MEMBER(attribute_count, numAttrs);

// --- functions. A parameter of ours stands for NVIDIA's where a call passes both in the same way: equal integers (an
// enumeration counts as its int), and any pointer for any other, but to the same depth of pointers.
template <class A, class B>
constexpr bool passes_as() {
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>) {
    using ToA = std::remove_cv_t<std::remove_pointer_t<A>>;
    using ToB = std::remove_cv_t<std::remove_pointer_t<B>>;
    if constexpr (std::is_void_v<ToA> || std::is_class_v<ToA>)
      return std::is_void_v<ToB> || std::is_class_v<ToB>;  // a handle, memory, or the launch's configuration
    else
      return !std::is_void_v<ToB> && !std::is_class_v<ToB> && passes_as<ToA, ToB>();
  } else {
    return !std::is_pointer_v<A> && !std::is_pointer_v<B> && sizeof(A) == sizeof(B) &&
           (std::is_integral_v<A> || std::is_enum_v<A>) && (std::is_integral_v<B> || std::is_enum_v<B>);
  }
}

template <class Mine, class Theirs>
struct SameCall : std::false_type {};
template <class... Mine, class... Theirs>
struct SameCall<ours::Status (*)(Mine...), CUresult (*)(Theirs...)> {
  static constexpr bool count = sizeof...(Mine) == sizeof...(Theirs);
  template <bool equal_counts>
  static constexpr bool each() {
    if constexpr (equal_counts)
      return (passes_as<Mine, Theirs>() && ...);
    else
      return false;
  }
  static constexpr bool value = each<count>();
};

#define LOOKED_UP(name, parameters) \
  static_assert(SameCall<decltype(ours::Driver::name), decltype(&name)>::value, #name " is declared otherwise");
BBS_DRIVER_FUNCTIONS(LOOKED_UP)

// The checks notice what they are for.
static_assert(passes_as<void*, CUstream>() && passes_as<void**, CUcontext*>() && passes_as<int, CUdevice_attribute>());
static_assert(!passes_as<int, size_t>() && !passes_as<void*, CUcontext*>() && !passes_as<int*, size_t*>());
static_assert(!SameCall<ours::Status (*)(int*), CUresult (*)(int*, int)>::value);
