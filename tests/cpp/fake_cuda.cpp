// A libcuda.so.1 that does nothing: what a driver answers comes from the environment. Compiled by
// tests/emulated/test_driver_failures.py; NO_LIBRARIES: as before CUDA 12.0.
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {

int told(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}
thread_local void* current = nullptr;
char context;

}  // namespace

extern "C" {
int cuInit(unsigned) { return told("FAKE_INIT", 0); }
int cuDriverGetVersion(int* version) { return *version = told("FAKE_VERSION", 13000), 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
  const int arch = told("FAKE_ARCH", 80);
  *value = attribute == 75 ? arch / 10 : attribute == 76 ? arch % 10 : attribute == 16 ? 2 : 163 * 1024;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** retained, int) { return *retained = &context, 0; }
int cuCtxGetCurrent(void** got) { return *got = current, 0; }
int cuCtxSetCurrent(void* set) { return current = set, 0; }
int cuCtxSynchronize() { return 0; }
#ifndef NO_LIBRARIES
int cuLibraryLoadData(void** library, const void*, int*, void**, unsigned, int*, void**, unsigned) {
  return *library = &context, told("FAKE_LOAD", 0);
}
#endif
int cuLibraryGetKernel(void** kernel, void*, const char*) { return *kernel = &context, told("FAKE_KERNEL", 0); }
int cuKernelSetAttribute(int, int, void*, int) { return 0; }
int cuLaunchKernelEx(const void*, void*, void**, void**) { return told("FAKE_LAUNCH", 0); }
int cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }
int cuMemHostAlloc(void** memory, size_t bytes, unsigned) { return *memory = std::calloc(1, bytes), 0; }
int cuGetErrorString(int status, const char** text) {
  *text = status == 100   ? "no CUDA-capable device is detected"
          : status == 200 ? "device kernel image is invalid"
          : status == 209 ? "no kernel image is available for execution on the device"
          : status == 222 ? "the provided PTX was compiled with an unsupported toolchain."
          : status == 700 ? "an illegal memory access was encountered"
                          : nullptr;
  return *text ? 0 : 1;
}
}
