// The order of a forward's launches, and the few questions that the op layer has for the machine.
#include <cuda_runtime.h>

#include "launch_forward.cuh"
#include "merge.cuh"
#include "rows.cuh"

namespace bbs::cuda {

extern const LoopKernels kLoop_fp32, kLoop_tf32, kLoop_bf16, kLoop_fp16, kLoop_bf16_fp32w, kLoop_fp16_fp32w;

namespace {

const LoopKernels& loop_of(const Operands& o) {
  switch (o.x) {
    case DType::bf16: return o.w == DType::f32 ? kLoop_bf16_fp32w : kLoop_bf16;
    case DType::f16: return o.w == DType::f32 ? kLoop_fp16_fp32w : kLoop_fp16;
    default: return o.tf32 ? kLoop_tf32 : kLoop_fp32;
  }
}

cudaError_t launch_norms(DType x, const LaunchShape& shape, const ForwardParams& p, cudaStream_t stream) {
  switch (x) {
    case DType::bf16: return launch(row_norm_kernel<Bf16>, shape, p, stream);
    case DType::f16: return launch(row_norm_kernel<Fp16>, shape, p, stream);
    default: return launch(row_norm_kernel<float>, shape, p, stream);
  }
}

const char* text(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

}  // namespace

const char* launch_target_cos(const Operands& o, const ForwardPlan& plan, const ForwardParams& p, void* to) {
  const cudaStream_t stream = static_cast<cudaStream_t>(to);
  if (p.rows == 0) return nullptr;
  cudaError_t error = launch_norms(o.x, plan.norms, p, stream);
  if (error == cudaSuccess) error = loop_of(o).target(plan.target, p, stream, o.aligned);
  return text(error);
}

const char* launch_forward(const Operands& o, const ForwardPlan& plan, const ForwardParams& p, void* to) {
  const cudaStream_t stream = static_cast<cudaStream_t>(to);
  if (p.rows == 0) return nullptr;
  if (const char* failed = launch_target_cos(o, plan, p, to)) return failed;
  cudaError_t error = launch(row_order_kernel, plan.order, p, stream);
  if (error == cudaSuccess) error = loop_of(o).sweep(plan.sweep, p, stream, o.aligned);
  if (error == cudaSuccess) error = launch(merge_kernel, plan.merge, p, stream);
  return text(error);
}

int64_t blocks_at_once(int device) {
  int count = 0;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess && count > 0 ? count : 1;
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

int64_t* bad_label_flag() {
  static int64_t* const flag = [] {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, 2 * sizeof(int64_t), cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess)
      return static_cast<int64_t*>(nullptr);
    auto* values = static_cast<int64_t*>(memory);
    values[0] = values[1] = 0;
    return values;
  }();
  return flag;
}

}  // namespace bbs::cuda
