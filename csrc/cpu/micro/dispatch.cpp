// Chooses the table of inner loops once per process. BBS_CPU_ISA overrides the choice, for tests and for bug reports.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace bbs::cpu {

extern const MicroKernels<float> kernels_generic_float;
extern const MicroKernels<double> kernels_generic_double;
#ifdef BBS_X86_VARIANTS
extern const MicroKernels<float> kernels_avx2_float;
extern const MicroKernels<double> kernels_avx2_double;
extern const MicroKernels<float> kernels_avx512_float;
extern const MicroKernels<double> kernels_avx512_double;
#endif

namespace {

struct Choice {
  const MicroKernels<float>* f32;
  const MicroKernels<double>* f64;
};

Choice choose() {
  const Choice baseline{&kernels_generic_float, &kernels_generic_double};
  const std::string baseline_name = baseline.f32->name;
  const char* wanted = std::getenv("BBS_CPU_ISA");
  const std::string name = wanted ? wanted : "";
  bool avx2 = false;
  bool avx512 = false;
#ifdef BBS_X86_VARIANTS
  __builtin_cpu_init();
  avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
  const bool known = name.empty() || name == baseline_name || (name == "avx2" && avx2) || (name == "avx512" && avx512);
  if (!known)
    throw std::runtime_error("BBS_CPU_ISA = '" + name + "': this processor and build offer " + baseline_name +
                             (avx2 ? ", avx2" : "") + (avx512 ? ", avx512" : ""));
#ifdef BBS_X86_VARIANTS
  if (avx512 && (name.empty() || name == "avx512")) return {&kernels_avx512_float, &kernels_avx512_double};
  if (avx2 && (name.empty() || name == "avx2")) return {&kernels_avx2_float, &kernels_avx2_double};
#endif
  return baseline;
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

template <>
const MicroKernels<float>& micro_kernels<float>() {
  return *choice().f32;
}
template <>
const MicroKernels<double>& micro_kernels<double>() {
  return *choice().f64;
}

}  // namespace bbs::cpu
