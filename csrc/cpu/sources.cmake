# The CPU kernels as one object library, for the op library, the Python module and the C++ tests alike.
function(bbs_cpu_kernels folder)
  add_library(bbs_cpu_kernels OBJECT
    ${folder}/rows.cpp ${folder}/exclusions.cpp ${folder}/sweep.cpp ${folder}/forward.cpp ${folder}/backward.cpp
    ${folder}/micro/dispatch.cpp ${folder}/micro/generic.cpp)
  set(isas "generic")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    set(isas "neon")
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_sources(bbs_cpu_kernels PRIVATE ${folder}/micro/avx2.cpp ${folder}/micro/avx512.cpp)
    set_source_files_properties(${folder}/micro/avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
    set_source_files_properties(${folder}/micro/avx512.cpp PROPERTIES COMPILE_OPTIONS
      "-mavx2;-mfma;-mavx512f;-mavx512dq;-mavx512bw;-mavx512vl;-mprefer-vector-width=512")
    set_source_files_properties(${folder}/micro/dispatch.cpp PROPERTIES COMPILE_DEFINITIONS BBS_X86_VARIANTS)
    string(APPEND isas " avx2 avx512")
  endif()
  set(BBS_CPU_ISAS "${isas}" PARENT_SCOPE)
endfunction()
