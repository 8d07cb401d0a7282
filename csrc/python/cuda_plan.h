// The CUDA kernels and their launch plans, for whoever compiles them, for reports and for tests. Pure: neither a driver
// nor a toolkit is needed to build or call it. A call is a dict of the fields of ForwardCall; pointers are integers,
// and offsets are those of centres, as the kernels have them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "../cuda/backward_call.h"
#include "../cuda/check_call.h"

namespace bbs::python {

namespace py = pybind11;

using MachineTuple = std::tuple<int32_t, int32_t, int32_t>;
using MatrixTuple = std::tuple<uintptr_t, int64_t, int64_t, int64_t, int64_t, int32_t>;

inline cuda::Machine machine_from(const MachineTuple& m) { return {std::get<0>(m), std::get<1>(m), std::get<2>(m)}; }

inline cuda::Matrix matrix_from(const MatrixTuple& m) {
  return {reinterpret_cast<const void*>(std::get<0>(m)),
          std::get<1>(m),
          std::get<2>(m),
          std::get<3>(m),
          std::get<4>(m),
          std::get<5>(m)};
}

template <class T>
T* pointer(const py::dict& values, const char* name) {
  return reinterpret_cast<T*>(values[name].cast<uintptr_t>());
}

// Checked: what comes here has passed no op body. `offsets` of centres.
inline cuda::ForwardCall call_from(const py::dict& v, const std::vector<int64_t>& offsets) {
  cuda::ForwardCall c{};
  c.x = matrix_from(v["x"].cast<MatrixTuple>());
  c.w = matrix_from(v["w"].cast<MatrixTuple>());
  c.operand = v["operand"].cast<int32_t>();
  c.labels = pointer<const int64_t>(v, "labels");
  c.aliases = pointer<const int64_t>(v, "aliases");
  c.guard_rows = pointer<const float>(v, "guard_rows");
  // Of a shard only.
  c.row_basket = v.contains("row_basket") ? pointer<const int64_t>(v, "row_basket") : nullptr;
  c.row_alias = v.contains("row_alias") ? pointer<const int64_t>(v, "row_alias") : nullptr;
  c.baskets = v["baskets"].cast<int64_t>();
  c.ignore_index = v["ignore_index"].cast<int64_t>();
  c.mined_in_lse = !v.contains("mined_in_lse") || v["mined_in_lse"].cast<bool>();

  const auto subcenters = v.contains("subcenters") ? v["subcenters"].cast<int64_t>() : 1;
  const int64_t classes = check_subcenters(subcenters, c.w.rows);
  check(static_cast<int64_t>(offsets.size()) == c.baskets + 1 && c.baskets > 0,
        "offsets: expected baskets + 1 = ", c.baskets + 1, " values, and a basket, got ", offsets.size());
  std::vector<int64_t> of_classes;
  for (const int64_t offset : offsets) {
    check(offset % subcenters == 0, "offsets: expected multiples of subcenters = ", subcenters, ", rows of w, got ",
          offset);
    of_classes.push_back(offset / subcenters);
  }
  check_offsets(of_classes.data(), c.baskets, classes);
  const auto scale = v["scale"].cast<double>();
  check_scale(scale);
  const RuleParams rule =
      check_rule(v["rule"].cast<int64_t>(), v["k"].cast<int64_t>(), v["skip"].cast<int64_t>(),
                 v["guard_kind"].cast<int64_t>(), v["guard_value"].cast<double>(), of_classes.data(), c.baskets);
  c.rule = rule.rule;
  c.guard_kind = rule.guard;
  c.k = static_cast<int32_t>(rule.k);
  c.skip = static_cast<int32_t>(rule.skip);
  c.scale = static_cast<float>(scale);
  c.guard_value = static_cast<float>(rule.guard_value);
  c.subcenters = static_cast<int32_t>(subcenters);
  cuda::check_call(c);
  return c;
}

// What the launcher would launch for a call.
struct Planned {
  cuda::ForwardCall call;
  cuda::ForwardShape shape;
  cuda::ForwardPlan plan;

  Planned(const py::dict& values, const std::vector<int64_t>& offsets, const MachineTuple& machine, bool streaming)
      : call(call_from(values, offsets)), shape(cuda::shape_of(call)) {
    cuda::Machine told = machine_from(machine);
    told.streaming = streaming;
    plan = cuda::plan_forward(shape, offsets.data(), told);
  }
};

inline py::dict launch(const cuda::Kernel& kernel, int64_t grid_x, int64_t grid_y, int64_t block, int64_t shared) {
  py::dict d;
  d["symbol"] = cuda::symbol_of(kernel);
  d["grid"] = py::make_tuple(grid_x, grid_y, 1);
  d["block"] = block;
  d["shared"] = shared;
  return d;
}

inline py::dict plan_forward(const py::dict& call, const std::vector<int64_t>& offsets, const MachineTuple& machine,
                             bool streaming) {
  const Planned made(call, offsets, machine, streaming);
  const cuda::ForwardPlan& p = made.plan;
  std::vector<int32_t> tile_begin(offsets.size());
  cuda::plan_tiles(offsets.data(), made.shape.baskets, cuda::class_align(made.shape.w_transposed, made.shape.w_bytes),
                   made.shape.subcenters, tile_begin.data());
  py::dict d;
  using N = cuda::KernelName;
  const auto kernel = [&](N name) { return cuda::kernel_of(name, made.shape, p.resident); };
  d["prepare_rows"] = launch(kernel(N::prepare_rows), p.prepare_blocks, 1, cuda::kPrepareThreads, 0);
  d["order_rows"] = launch(kernel(N::order_rows), p.order_blocks, 1, cuda::kPrepareThreads, 0);
  d["cos_lse_sweep"] = launch(kernel(N::cos_lse_sweep), p.row_blocks, p.splits, p.threads, p.shared_bytes);
  d["merge_splits"] = launch(kernel(N::merge_splits), p.merge_blocks, 1, cuda::kMergeThreads, 0);
  d["merge_margin"] = launch(kernel(N::merge_margin), p.merge_blocks, 1, cuda::kMergeThreads, 0);
  d["resident"] = p.resident != 0;
  d["vectors"] = made.shape.vectors != 0;
  d["w_transposed"] = made.shape.w_transposed != 0;
  d["several"] = made.shape.subcenters > 1;
  d["tiles"] = p.tiles;
  d["splits"] = p.splits;
  d["sort_passes"] = p.order_sort.passes;
  d["list_length"] = p.list_length;
  d["workspace"] = p.at.total;
  d["tile_begin"] = tile_begin;
  return d;
}

// The gradient's matrices are (address, row stride, column stride), or None where it is not wanted.
inline cuda::Matrix gradient(const char* name, const py::object& value, const cuda::Matrix& of, bool transposed) {
  if (value.is_none()) return {};
  const auto [address, row, column] = value.cast<std::tuple<uintptr_t, int64_t, int64_t>>();
  const bool adjacent = transposed ? row == 1 || of.rows <= 1 : column == 1 || of.columns <= 1;
  check(adjacent, name, ": expected a stride of 1 along ", transposed ? "the classes, as w is transposed" : "D",
        ", got strides [", row, ", ", column, "]");
  return {reinterpret_cast<const void*>(address), of.rows, of.columns, row, column, of.bytes};
}

// [(kernel, symbol, grid, block, shared bytes, parameter bytes)] in launch order, and what a launcher allocates before.
inline py::dict plan_backward(const py::dict& call, const std::vector<int64_t>& offsets, const MachineTuple& machine,
                              const py::dict& memory, int64_t workspace_limit) {
  check_workspace(workspace_limit);
  const Planned made(call, offsets, machine, false);
  cuda::check_pairs(made.call);
  cuda::Matrix dx = gradient("dx", memory["dx"], made.call.x, false);
  if (made.call.row_basket) dx.bytes = 4;  // partial sums
  const cuda::Matrix dw = gradient("dw", memory["dw"], made.call.w, made.shape.w_transposed);
  const cuda::BackwardNeeds needs = {!memory["dx"].is_none(), !memory["dw"].is_none()};
  const cuda::BackwardLayout layout =
      cuda::lay_out_backward(made.call, made.shape, offsets.data(), machine_from(machine), needs, workspace_limit);
  py::list list;
  cuda::backward_launches(
      made.call, made.shape, layout, needs,
      {pointer<const int64_t>(memory, "offsets"), pointer<const int32_t>(memory, "tile_begin"),
       pointer<const float>(memory, "grad_lse"), pointer<const float>(memory, "grad_cos_t"),
       pointer<const float>(memory, "lse"), pointer<const int64_t>(memory, "mined_idx"),
       pointer<const float>(memory, "mined_cos"), dx, dw, pointer<void>(memory, "workspace")},
      [&](const cuda::Kernel& kernel, const cuda::Grid& grid, int32_t block, int32_t shared, const auto& params) {
        list.append(py::make_tuple(cuda::entry_of(kernel.name).text, cuda::symbol_of(kernel),
                                   py::make_tuple(grid.x, grid.y, grid.z), block, shared,
                                   py::bytes(reinterpret_cast<const char*>(&params), sizeof params)));
      });
  py::dict d;
  d["launches"] = list;
  d["workspace"] = layout.total;
  d["runs"] = layout.dense.runs;
  d["splits"] = layout.dense.splits;
  d["row_blocks"] = layout.dense.row_blocks;
  d["lane_values"] = cuda::lane_values(made.shape.dim, made.shape.w_transposed);
  d["vectors"] = made.shape.vectors != 0;
  d["w_transposed"] = made.shape.w_transposed != 0;
  d["several"] = made.shape.subcenters > 1;
  return d;
}

inline cuda::Kernel kernel_from(const std::string& symbol) {
  for (const cuda::Kernel& kernel : cuda::all_kernels())
    if (cuda::symbol_of(kernel) == symbol) return kernel;
  throw std::invalid_argument("symbol: expected one of cuda_kernels(), got " + symbol);
}

inline py::dict describe(const cuda::Kernel& kernel) {
  const cuda::KernelEntry& entry = cuda::entry_of(kernel.name);
  py::dict d;
  d["kernel"] = entry.text;
  d["symbol"] = cuda::symbol_of(kernel);
  d["family"] = cuda::family_of(kernel);
  d["threads"] = entry.threads;
  if (entry.types != cuda::KernelTypes::none) d["operand"] = cuda::operand_text(kernel.operand).symbol;
  if (kernel.w_bytes) {
    d["w_bytes"] = kernel.w_bytes;
    d["w_transposed"] = kernel.w_transposed != 0;
  }
  if (kernel.lanes) d["lane_values"] = kernel.lanes;
  if (entry.types == cuda::KernelTypes::sweep) {
    d["resident"] = kernel.resident != 0;
    d["vectors"] = kernel.vectors != 0;
    d["subcenters"] = kernel.subcenters != 0;
  }
  return d;
}

inline std::string kernel_source(const std::vector<std::string>& symbols) {
  std::vector<cuda::Kernel> kernels;
  for (const std::string& symbol : symbols) kernels.push_back(kernel_from(symbol));
  return cuda::source_of(kernels);
}

inline void bind_cuda_plan(py::module_& m) {
  m.def(
      "cuda_kernels",
      [] {
        py::list all;
        for (const cuda::Kernel& kernel : cuda::all_kernels()) all.append(describe(kernel));
        return all;
      },
      "Every instantiation of the CUDA kernels: symbol, kernel, family (the image that holds it) and what it depends "
      "on.");
  m.def(
      "cuda_family", [](const std::string& symbol) { return cuda::family_of(kernel_from(symbol)); }, py::arg("symbol"),
      "The family of a kernel: the name of the image that holds it, without its target.");
  m.def("cuda_source", &kernel_source, py::arg("symbols"),
        "A CUDA translation unit with these kernels, for nvcc or NVRTC with the package's headers.");
  m.def(
      "machine_of",
      [](int arch, int multiprocessors) {
        const cuda::Machine a = cuda::machine_of(arch, multiprocessors);
        return MachineTuple{a.multiprocessors, a.shared_per_block, a.shared_per_multiprocessor};
      },
      py::arg("arch"), py::arg("multiprocessors"),
      "What a plan asks of a device: (multiprocessors, shared bytes of a block, of a multiprocessor); arch as in "
      "sm_80.");
  m.def(
      "wants_copy",
      [](const MatrixTuple& x, const MatrixTuple& w) { return cuda::wants_copy(matrix_from(x), matrix_from(w)); },
      py::arg("x"), py::arg("w"), "Whether a call takes a contiguous copy of x: the kernels need it, or gain by it.");
  m.def("plan_forward", &plan_forward, py::arg("call"), py::arg("offsets"), py::arg("machine"),
        py::arg("streaming") = false, "Grids, shared memory, workspace bytes and tables of a CUDA forward.");
  m.def("plan_backward", &plan_backward, py::arg("call"), py::arg("offsets"), py::arg("machine"), py::arg("memory"),
        py::arg("workspace_limit") = cuda::kDenseWorkspace,
        "The launches of a CUDA backward, with their bytes, and the workspace that they need.");
}

}  // namespace bbs::python
