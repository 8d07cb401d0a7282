// The CUDA bodies of the ops, for whoever registers them: cuda_register.cpp under the key CUDA; a test for tensors of
// the CPU, with tables of functions of its own.
#pragma once

#include <torch/csrc/stable/library.h>

namespace bbs::ops {

// cos_lse, margin_softmax, cos_lse_backward and target_cos.
void add_cuda_bodies(torch::stable::detail::StableLibrary& library);

// check_labels.
void add_label_report(torch::stable::detail::StableLibrary& library);

}  // namespace bbs::ops
