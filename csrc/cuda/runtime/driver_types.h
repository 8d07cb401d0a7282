// The part of the CUDA driver's C interface that is used here, declared by us: building needs no CUDA toolkit. Where
// cuda.h is installed, a test compares sizes, offsets and values with it (tests/cpp/driver_types.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace bbs::cuda {

using Status = int;          // CUresult
using DeviceHandle = int;    // CUdevice
using Context = void*;       // CUcontext
using Stream = void*;        // CUstream
using Library = void*;       // CUlibrary
using KernelHandle = void*;  // CUkernel, which a launch takes in place of a CUfunction

constexpr Status kSuccess = 0;
constexpr Status kInvalidImage = 200;     // CUDA_ERROR_INVALID_IMAGE
constexpr Status kNoBinaryForGpu = 209;   // CUDA_ERROR_NO_BINARY_FOR_GPU
constexpr Status kUnsupportedPtx = 222;   // CUDA_ERROR_UNSUPPORTED_PTX_VERSION
constexpr Status kCaptureImplicit = 906;  // CUDA_ERROR_STREAM_CAPTURE_IMPLICIT

// CUdevice_attribute.
enum DeviceAttribute : int {
  kMultiprocessorCount = 16,
  kComputeMajor = 75,
  kComputeMinor = 76,
  kSharedPerMultiprocessor = 81,
  kSharedPerBlockOptin = 97,
};

constexpr int kMaxDynamicShared = 8;              // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr unsigned kHostAllocPortableMapped = 3;  // CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP
constexpr int kCaptureNone = 0;                   // CU_STREAM_CAPTURE_STATUS_NONE

// CUlaunchConfig.
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  Stream stream;
  void* attributes;
  unsigned attribute_count;
};

}  // namespace bbs::cuda
