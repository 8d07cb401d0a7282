# The CUDA kernels as one object library: one small unit per pair of operand types.
function(bbs_cuda_kernels folder)
  set(sources ${folder}/launch.cu ${folder}/launch_backward.cu ${folder}/device.cu)
  foreach(unit fp32 tf32 bf16 fp16 bf16_fp32w fp16_fp32w)
    list(APPEND sources ${folder}/forward_${unit}.cu ${folder}/backward_${unit}.cu)
  endforeach()
  add_library(bbs_cuda_kernels OBJECT ${sources})
  # -Wall is for the host compiler; nvcc's own warnings are on by default.
  set_property(SOURCE ${sources} APPEND PROPERTY COMPILE_OPTIONS "-Xcompiler=-fvisibility=hidden")
endfunction()
