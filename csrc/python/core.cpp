// bbs_kernels._core: what is not a tensor op. Launch plans are pure functions of the problem, so a test asks here for
// exactly what the kernels will do.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <string>

#include "../common/plan_cpu.h"
#include "../common/rule.h"
#include "../cpu/micro/kernels.h"
#include "cuda_plan.h"

namespace py = pybind11;

namespace {

std::map<std::string, std::string> build_info() {
  return {{"version", BBS_VERSION},
          {"compiler", BBS_COMPILER},
          {"build_type", BBS_BUILD_TYPE},
          {"torch", BBS_TORCH_VERSION},
          {"cpu_isas", BBS_CPU_ISAS}};
}

// GFLOP/s of fp32 multiply-adds on registers, one thread: the ceiling that benchmarks are quoted against.
double fma_peak(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto& micro = bbs::cpu::micro_kernels<float>();
  const auto start = Clock::now();
  double flops = 0;
  double elapsed = 0;
  do {
    flops += static_cast<double>(micro.fma_burst(100000));
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < seconds);
  return flops / elapsed / 1e9;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Launch plans and build information of bbs_kernels.";
  m.def("build_info", &build_info, "What this build contains: version, compiler, torch, instruction sets.");
  m.def(
      "plan_chunks",
      [](int64_t classes) {
        const bbs::ChunkPlan plan = bbs::plan_chunks(classes);
        std::vector<std::pair<int64_t, int64_t>> chunks;
        for (int64_t i = 0; i < plan.count; ++i) chunks.emplace_back(plan.begin(i), plan.end(i));
        return chunks;
      },
      py::arg("classes"), "Half-open class ranges that the CPU kernels hand to threads, in merge order.");
  m.def(
      "cpu_isa", [] { return std::string(bbs::cpu::micro_kernels<float>().name); },
      "The instruction set whose inner loops this process runs; BBS_CPU_ISA chooses another.");
  m.def("fma_peak", &fma_peak, py::arg("seconds") = 0.05, py::call_guard<py::gil_scoped_release>(),
        "Measured fp32 multiply-add rate of one thread in GFLOP/s.");
  bbs::python::bind_cuda_plan(m);
  m.attr("MAX_LISTED") = bbs::kMaxListed;
  m.attr("MAX_MINED_PER_ROW") = bbs::kMaxMinedPerRow;
}
