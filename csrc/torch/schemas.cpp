// Every op of the package, in one place. Shapes: x [B, D], w [C, D], labels [B], offsets [K + 1] (always on the CPU),
// guard [B], aliases [C]; lse, cos_t [B]; mined_idx, mined_cos [B, K, k]. rule and guard_kind: csrc/common/rule.h.
// An output that is not needed (need_dx, need_dw) comes back with shape [0].
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(bbs_kernels, m) {
  m.def(
      "cos_lse(Tensor x, Tensor w, Tensor labels, Tensor offsets, Tensor? guard, Tensor? aliases, float scale, "
      "int rule, int k, int skip, int guard_kind, float guard_value, int ignore_index) "
      "-> (Tensor lse, Tensor cos_t, Tensor mined_idx, Tensor mined_cos)");
  m.def(
      "cos_lse_backward(Tensor grad_lse, Tensor grad_cos_t, Tensor x, Tensor w, Tensor labels, Tensor offsets, "
      "Tensor lse, Tensor cos_t, Tensor mined_idx, Tensor mined_cos, Tensor? guard, Tensor? aliases, float scale, "
      "int rule, int guard_kind, float guard_value, int ignore_index, bool need_dx, bool need_dw) "
      "-> (Tensor dx, Tensor dw)");
  m.def("target_cos(Tensor x, Tensor w, Tensor labels, Tensor offsets, int ignore_index) -> Tensor");
}
