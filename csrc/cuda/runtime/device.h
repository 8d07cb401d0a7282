// What the op layer asks a device beside launching.
#pragma once

#include "../params.h"
#include "../plan.h"
#include "driver.h"

namespace bbs::cuda {

// A number of CUdevice_attribute.
int attribute_of(DeviceAttribute what, int device);

// Sizes of a device that a plan depends on; asked once per device, and the device then counts as used.
Machine machine_of_device(int device);

// Plans for `machine` on every device; it stays the caller's. Null: each device tells its own sizes again. For tests.
void use_machine(const Machine* machine);

bool is_capturing(Stream stream);

// One per process, in pinned memory that every device can write; null where there is none to be had. The first call
// allocates, which CUDA refuses while a graph is captured.
BadLabel* bad_label_of_process();
// The same if it is there already, else null.
BadLabel* known_bad_label();

// The word that a launch left there, or BadLabel::none; it is forgotten. Allocates nothing and waits for nothing.
int64_t take_bad_label_word();

// Waits for everything that was queued on the used devices.
void wait_for_used_devices();

}  // namespace bbs::cuda
