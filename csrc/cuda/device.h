// What the op layer asks the CUDA runtime beside launching.
#pragma once

#include "plan.h"

namespace bbs::cuda {

// Sizes of a device that a plan depends on; asked once per device.
Machine machine_of_device(int device);

bool is_capturing(void* stream);

// One per process, in pinned memory that every device can write; null where there is none to be had.
BadLabel* bad_label_of_process();

}  // namespace bbs::cuda
