// One launch of a kernel by what it is. Its image is loaded at the first launch on a device: from the files of the
// package or from NVRTC, which the provider decides and nobody here knows.
#pragma once

#include "../forward_call.h"
#include "driver.h"

namespace bbs::cuda {

// Where work is put: a device and a stream of it.
struct Queue {
  int device;
  Stream stream;
};

// Finds the image that holds `symbol` for compute capability `arch` (90 for 9.0). Returns 0 and sets *image to memory
// that stays as it is for ever, the same for every symbol of one image; else writes one line into `error`
// [error_bytes]. Called without a lock held. It may take Python's interpreter lock.
extern "C" using ImageProvider = int(const char* symbol, int arch, const void** image, char* error, size_t error_bytes);

void use_images(ImageProvider* provider);

// Asynchronous. Throws std::runtime_error with what to do where the kernel cannot be had or launched; a kernel that was
// never launched on the device is refused while the stream is captured into a graph. Thread-safe.
void launch(const Kernel& kernel, const Grid& grid, int threads, int shared_bytes, const void* params,
            const Queue& queue);

}  // namespace bbs::cuda
