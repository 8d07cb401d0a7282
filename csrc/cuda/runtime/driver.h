// The table of driver functions through which everything reaches a device. It is filled from libcuda.so.1 at the first
// CUDA call, so that this library loads on machines without a driver; a test replaces it as a whole.
#pragma once

#include "driver_types.h"

namespace bbs::cuda {

// Name and parameters of each; all return a Status.
#define BBS_DRIVER_FUNCTIONS(X)                                                                                        \
  X(cuInit, (unsigned flags))                                                                                          \
  X(cuDriverGetVersion, (int* version))                                                                                \
  X(cuDeviceGet, (DeviceHandle * device, int ordinal))                                                                 \
  X(cuDeviceGetAttribute, (int* value, int attribute, DeviceHandle device))                                            \
  X(cuDevicePrimaryCtxRetain, (Context * context, DeviceHandle device))                                                \
  X(cuCtxGetCurrent, (Context * context))                                                                              \
  X(cuCtxSetCurrent, (Context context))                                                                                \
  X(cuCtxSynchronize, ())                                                                                              \
  X(cuLibraryLoadData, (Library * library, const void* image, int* jit_options, void** jit_values, unsigned jit_count, \
                        int* options, void** values, unsigned count))                                                  \
  X(cuLibraryGetKernel, (KernelHandle * kernel, Library library, const char* symbol))                                  \
  X(cuKernelSetAttribute, (int attribute, int value, KernelHandle kernel, DeviceHandle device))                        \
  X(cuLaunchKernelEx, (const LaunchConfig* config, KernelHandle kernel, void** parameters, void** extra))              \
  X(cuStreamIsCapturing, (Stream stream, int* status))                                                                 \
  X(cuMemHostAlloc, (void** memory, size_t bytes, unsigned flags))                                                     \
  X(cuGetErrorString, (Status status, const char** text))

extern "C" struct Driver {
#define BBS_DRIVER_MEMBER(name, parameters) Status(*name) parameters;
  BBS_DRIVER_FUNCTIONS(BBS_DRIVER_MEMBER)
#undef BBS_DRIVER_MEMBER
};

// The table in use. Throws std::runtime_error, in one line that says what to do, where no driver can be used. A failure
// is not kept: the next call tries again. Thread-safe.
const Driver& driver();

// Replaces libcuda by `table`, which stays the caller's; null: back to libcuda.
void use_driver(const Driver* table);

// Throws std::runtime_error with the driver's own words unless `status` is success. `what`: "X failed", with its
// object; `advice`: ": what to do".
void check_driver(Status status, const char* what, const char* object = "", const char* advice = "");

}  // namespace bbs::cuda
