// What the op layer asks the CUDA runtime beside launching.
#pragma once

#include <cuda_runtime_api.h>

#include "plan.h"

namespace bbs::cuda {

// Sizes of a device that a plan depends on; asked once per device.
Machine machine_of_device(int device);

bool is_capturing(void* stream);

// One per process, in pinned memory that every device can write; null where there is none to be had. The first call
// allocates, which CUDA refuses while a graph is captured.
BadLabel* bad_label_of_process();
// The same if it is there already, else null.
BadLabel* known_bad_label();

// Until all that was queued on the devices of machine_of_device() is done; the first error.
cudaError_t wait_for_used_devices();

}  // namespace bbs::cuda
