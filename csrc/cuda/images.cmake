# Images of the kernels: machine code of every target, and PTX of one for GPUs that come later. Compiled in two steps, so
# that both come from the same PTX. The static report compiles with these functions too (bench/bbs_static/CMakeLists.txt).

# The commands that make ${base}.compute_${arch}.ptx and ${base}.sm_${arch}.cubin of a CUDA source that includes from
# `folder`. What a source includes, the toolkit's headers among it, is known from the compiler: its depfile names the PTX
# as ninja does, relative to the build folder, or ninja would compile it again each time.
function(bbs_cuda_image source base arch folder)
  if(NOT BBS_NVCC)
    message(FATAL_ERROR "BBS_NVCC is not set: build with pip, which runs setup.py (see CONTRIBUTING.md)")
  endif()
  get_filename_component(name ${base} NAME)
  set(ptx ${base}.compute_${arch}.ptx)
  set(cubin ${base}.sm_${arch}.cubin)
  file(RELATIVE_PATH target ${CMAKE_BINARY_DIR} ${ptx})
  add_custom_command(OUTPUT ${ptx}
    COMMAND ${BBS_NVCC} -std=c++17 -O3 -I${folder} -arch=compute_${arch} -ptx -MD -MF ${ptx}.d -MT ${target}
      ${source} -o ${ptx}
    DEPENDS ${source} ${BBS_NVCC} DEPFILE ${ptx}.d COMMENT "PTX of ${name} for compute_${arch}" VERBATIM)
  add_custom_command(OUTPUT ${cubin}
    COMMAND ${BBS_NVCC} -O3 -arch=sm_${arch} -cubin ${ptx} -o ${cubin}
    DEPENDS ${ptx} ${BBS_NVCC} COMMENT "Machine code of ${name} for sm_${arch}" VERBATIM)
endfunction()

# The images of every family of kernel_list.h, for BBS_CUDA_ARCHS; `output`: the variable that takes their paths. PTX is
# that of the last target without a suffix: compute_90a runs on sm_90 alone, so it is of no use to later GPUs. The
# sources are written by a program built from the list.
function(bbs_kernel_images folder output)
  add_executable(bbs_kernel_sources ${folder}/plan/kernel_sources.cpp)
  set(lasting ${BBS_CUDA_ARCHS})
  list(FILTER lasting INCLUDE REGEX "^[0-9]+$")
  set(families common)
  foreach(types bf16 bf16_fp32w fp16 fp16_fp32w tf32 fp32)
    list(APPEND families forward_${types} backward_${types})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/images)
  set(images)
  foreach(family IN LISTS families)
    set(base ${CMAKE_CURRENT_BINARY_DIR}/images/${family})
    add_custom_command(OUTPUT ${base}.cu COMMAND bbs_kernel_sources ${family} ${base}.cu
      DEPENDS bbs_kernel_sources COMMENT "Sources of ${family}" VERBATIM)
    foreach(arch IN LISTS BBS_CUDA_ARCHS)
      bbs_cuda_image(${base}.cu ${base} ${arch} ${folder})
      list(APPEND images ${base}.sm_${arch}.cubin)
    endforeach()
    if(lasting)
      list(GET lasting -1 last)
      list(APPEND images ${base}.compute_${last}.ptx)
    endif()
  endforeach()
  set(${output} ${images} PARENT_SCOPE)
endfunction()
