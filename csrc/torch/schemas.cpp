// Every op of the package, in one place. Shapes: x [B, D], w [C, D], labels [B], offsets [K + 1] (always on the CPU),
// guard [B], aliases [C]; lse, cos_t [B]; mined_idx, mined_cos [B, K, k]. rule and guard_kind: csrc/common/rule.h.
// class_index [S]: ascending classes that take part (Partial FC), all when None; labels, mined_idx and offsets stay
// those of all classes, dw is [S, D] then. stash: cosines kept for backward within stash_bytes, CPU only.
// row_basket [B] makes w a shard: labels are rows of w, or negative where the row's class is on another shard; such a
// row has no target here (cos_t 0) and its own basket is row_basket's, -1 for an ignored row. row_alias [B]: alias of
// the row's class, aliases[label] when None. mined_in_lse=False: lse is of the own basket alone. dx is then a partial
// sum and has the dtype of lse, not of x. Backward takes lse, cos_t and mined_idx of all shards together.
// allow_tf32: CUDA only, fp32 operands multiplied as tf32. workspace_bytes: CUDA only, how much a backward holds of
// probabilities and normalised centres at a time; forward hands it on.
// margin_softmax is cos_lse and, on its B rows, the loss under the combined margin family with its derivatives; codes
// of boundary and target_grad: csrc/common/combined_margin.h. cos_lse_backward_sgd updates w and momentum instead of
// returning dw. subcenters r: w is [C * r, D], the cosine of a class that of the nearest of its r adjacent rows;
// mined_idx then holds those rows, not the classes. check_labels waits for every device that a CUDA op has run on and
// raises the label out of range that a launch found, once. release_workspace gives the memory that the CPU ops keep
// from step to step back and returns its bytes. basket_of and first_class look labels and baskets up in the offsets, on
// the device of their first argument; their body is bbs_kernels/ops/offsets.py. An output that is not needed (need_dx,
// need_dw) comes back with shape [0].
#include <torch/csrc/stable/library.h>

#include "kept_tensor.h"

STABLE_TORCH_LIBRARY(bbs_kernels, m) {
  m.def(
      "cos_lse(Tensor x, Tensor w, Tensor labels, Tensor offsets, Tensor? guard, Tensor? aliases, float scale, "
      "int rule, int k, int skip, int guard_kind, float guard_value, int ignore_index, Tensor? class_index=None, "
      "int stash_bytes=0, bool allow_tf32=False, Tensor? row_basket=None, Tensor? row_alias=None, "
      "bool mined_in_lse=True, int workspace_bytes=67108864, int subcenters=1) -> (Tensor lse, Tensor cos_t, "
      "Tensor mined_idx, Tensor mined_cos, Tensor stash)");
  m.def(
      "margin_softmax(Tensor x, Tensor w, Tensor labels, Tensor offsets, Tensor? guard, Tensor? aliases, float scale, "
      "int rule, int k, int skip, int guard_kind, float guard_value, int ignore_index, float m1, float m2, float m3, "
      "int boundary, int target_grad, Tensor? class_index=None, int stash_bytes=0, bool allow_tf32=False, "
      "int workspace_bytes=67108864, int subcenters=1) -> "
      "(Tensor loss, Tensor grad_lse, Tensor grad_cos_t, Tensor lse, Tensor cos_t, Tensor mined_idx, "
      "Tensor mined_cos, Tensor stash)");
  m.def(
      "cos_lse_backward(Tensor grad_lse, Tensor grad_cos_t, Tensor x, Tensor w, Tensor labels, Tensor offsets, "
      "Tensor lse, Tensor cos_t, Tensor mined_idx, Tensor mined_cos, Tensor stash, Tensor? guard, Tensor? aliases, "
      "float scale, int rule, int guard_kind, float guard_value, int ignore_index, Tensor? class_index, bool need_dx, "
      "bool need_dw, bool allow_tf32=False, Tensor? row_basket=None, Tensor? row_alias=None, "
      "int workspace_bytes=67108864, int subcenters=1) -> (Tensor dx, Tensor dw)");
  m.def(
      "cos_lse_backward_sgd(Tensor grad_lse, Tensor grad_cos_t, Tensor x, Tensor(a!) w, Tensor labels, "
      "Tensor offsets, Tensor lse, Tensor cos_t, Tensor mined_idx, Tensor mined_cos, Tensor stash, Tensor? guard, "
      "Tensor? aliases, float scale, int rule, int guard_kind, float guard_value, int ignore_index, "
      "Tensor? class_index, bool need_dx, Tensor(b!)? momentum_buffer, bool first_step, float lr, float momentum, "
      "float dampening, float weight_decay, bool nesterov, Tensor? row_basket=None, Tensor? row_alias=None, "
      "int subcenters=1) -> Tensor dx");
  m.def(
      "target_cos(Tensor x, Tensor w, Tensor labels, Tensor offsets, int ignore_index, Tensor? class_index=None, "
      "bool allow_tf32=False, int subcenters=1) -> Tensor");
  m.def("basket_of(Tensor labels, Tensor offsets) -> Tensor");
  m.def("first_class(Tensor basket, Tensor offsets) -> Tensor");
  m.def("check_labels() -> ()");
  m.def("release_workspace() -> int");
  m.impl("release_workspace", TORCH_BOX(&bbs::ops::release_workspace));
}
