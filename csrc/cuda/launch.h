// The host's way into the kernels: plain structs in, work on a stream out. Nothing here needs the CUDA runtime's
// headers.
#pragma once

#include "params.h"
#include "plan.h"

namespace bbs::cuda {

// Which main loop serves a pair of operands.
struct Operands {
  DType x, w;
  bool tf32;     // fp32 operands on tensor cores
  bool aligned;  // rows of both start on 16 bytes, are contiguous along D, and D fills whole 16-byte chunks
};

// May 16-byte copies read this matrix?
inline bool is_aligned(const Matrix& m, int64_t depth, DType dtype) {
  const int64_t size = dtype == DType::f32 ? 4 : 2;
  return m.col_stride == 1 && depth * size % 16 == 0 && m.row_stride * size % 16 == 0 &&
         reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

// Each returns null, or what CUDA had to say. `stream` is a cudaStream_t.
const char* launch_forward(const Operands& operands, const ForwardPlan& plan, const ForwardParams& p, void* stream);
const char* launch_target_cos(const Operands& operands, const ForwardPlan& plan, const ForwardParams& p, void* stream);

int64_t blocks_at_once(int device);  // of the sweep: one per multiprocessor
bool is_capturing(void* stream);
int64_t* bad_label_flag();  // [2] pinned, zero at first; null when it could not be had

}  // namespace bbs::cuda
