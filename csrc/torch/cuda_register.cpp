// What the shipped library registers, and the one function that Python calls in it.
#include "../cuda/runtime/launch.h"
#include "cuda_ops.h"

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CUDA, m) { bbs::ops::add_cuda_bodies(m); }

STABLE_TORCH_LIBRARY_IMPL(bbs_kernels, CompositeExplicitAutograd, m) { bbs::ops::add_label_report(m); }

extern "C" __attribute__((visibility("default"))) void bbs_cuda_use_images(bbs::cuda::ImageProvider* provider) {
  bbs::cuda::use_images(provider);
}
