# Images of the kernels: for each family of kernel_list.h machine code of every target, and PTX of the last for GPUs that
# come later. The sources are written by a program built from that list.
function(bbs_cuda_images folder)
  if(NOT BBS_NVCC)
    message(FATAL_ERROR "BBS_NVCC is not set: build with pip, which runs setup.py (see CONTRIBUTING.md)")
  endif()
  add_executable(bbs_kernel_sources ${folder}/plan/kernel_sources.cpp)
  list(GET BBS_CUDA_ARCHS -1 last)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${folder}/*.h ${folder}/*.cuh ${folder}/../common/*.h)
  set(flags -std=c++17 -O3 -I${folder})
  set(images)
  set(families common)
  foreach(types bf16 bf16_fp32w fp16 fp16_fp32w tf32 fp32)
    list(APPEND families forward_${types} backward_${types})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/images)
  foreach(family IN LISTS families)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/images/${family}.cu)
    add_custom_command(OUTPUT ${source} COMMAND bbs_kernel_sources ${family} ${source}
      DEPENDS bbs_kernel_sources COMMENT "Sources of ${family}" VERBATIM)
    foreach(arch IN LISTS BBS_CUDA_ARCHS)
      set(base ${CMAKE_CURRENT_BINARY_DIR}/images/${family})
      add_custom_command(OUTPUT ${base}.compute_${arch}.ptx
        COMMAND ${BBS_NVCC} ${flags} -arch=compute_${arch} -ptx ${source} -o ${base}.compute_${arch}.ptx
        DEPENDS ${source} ${headers} COMMENT "PTX of ${family} for compute_${arch}" VERBATIM)
      add_custom_command(OUTPUT ${base}.sm_${arch}.cubin
        COMMAND ${BBS_NVCC} -O3 -arch=sm_${arch} -cubin ${base}.compute_${arch}.ptx -o ${base}.sm_${arch}.cubin
        DEPENDS ${base}.compute_${arch}.ptx COMMENT "Machine code of ${family} for sm_${arch}" VERBATIM)
      list(APPEND images ${base}.sm_${arch}.cubin)
    endforeach()
    list(APPEND images ${base}.compute_${last}.ptx)
  endforeach()
  add_custom_target(bbs_cuda_images ALL DEPENDS ${images})
  install(FILES ${images} DESTINATION images)
endfunction()
