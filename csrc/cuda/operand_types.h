// The combinations of operand types that are compiled, one per unit, and the choice among them for a call.
// Not built: fp64, and a 16-bit w beside an fp32 x.
#pragma once

#include <cuda_runtime_api.h>

#include "plan.h"

namespace bbs::cuda {

struct Bf16;
struct Fp16;
struct Tf32;
struct Fp32;

// Calls body(Launcher<type of x in the main loop, bytes of an element of w>()).
template <template <class, int> class Launcher, class Body>
cudaError_t with_types(const ForwardShape& s, Body body) {
  switch (s.operand) {
    case Operand::bf16: return s.w_bytes == 2 ? body(Launcher<Bf16, 2>()) : body(Launcher<Bf16, 4>());
    case Operand::fp16: return s.w_bytes == 2 ? body(Launcher<Fp16, 2>()) : body(Launcher<Fp16, 4>());
    case Operand::tf32: return body(Launcher<Tf32, 4>());
    default: return body(Launcher<Fp32, 4>());
  }
}

}  // namespace bbs::cuda
