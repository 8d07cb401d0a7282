// The seams of the CUDA op library, opened for tests: tables of functions in place of the driver's and torch's, and the
// op bodies registered under a name and a key of the test's choice.
#include "../../../csrc/cuda/runtime/device.h"
#include "../../../csrc/cuda/runtime/driver.h"
#include "../../../csrc/cuda/runtime/launch.h"
#include "../../../csrc/torch/accelerator.h"
#include "../../../csrc/torch/cuda_ops.h"

#define BBS_TEST_API extern "C" __attribute__((visibility("default")))

using torch::stable::detail::StableLibrary;

// The names of the driver's table, in its order, each followed by a space.
BBS_TEST_API const char* bbs_test_driver_functions() {
#define BBS_NAME(name, parameters) #name " "
  return BBS_DRIVER_FUNCTIONS(BBS_NAME);
#undef BBS_NAME
}

BBS_TEST_API void bbs_test_use(const bbs::cuda::Driver* driver, const bbs::ops::Accelerator* accelerator,
                               bbs::cuda::ImageProvider* images) {
  bbs::cuda::use_driver(driver);
  bbs::ops::use_accelerator(accelerator);
  bbs::cuda::use_images(images);
}

// Null: each device tells its own sizes again.
BBS_TEST_API void bbs_test_use_machine(const bbs::cuda::Machine* machine) { bbs::cuda::use_machine(machine); }

// The four ops under `key` of the namespace `name`, until they are taken back.
BBS_TEST_API void* bbs_test_register(const char* name, const char* key) {
  auto* library = new StableLibrary(StableLibrary::Kind::IMPL, name, key, __FILE__, __LINE__);
  bbs::ops::add_cuda_bodies(*library);
  return library;
}

BBS_TEST_API void* bbs_test_register_report(const char* name) {
  auto* library = new StableLibrary(StableLibrary::Kind::IMPL, name, "CompositeExplicitAutograd", __FILE__, __LINE__);
  bbs::ops::add_label_report(*library);
  return library;
}

BBS_TEST_API void bbs_test_take_back(void* library) { delete static_cast<StableLibrary*>(library); }
