// Launch plans and parameter bytes of the CUDA kernels, for the tests and for launchers outside this library. Pure: no
// CUDA runtime is needed to build or call it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "../cuda/plan.h"

namespace bbs::python {

namespace py = pybind11;

inline py::dict shape_dict(const cuda::LaunchShape& s) {
  py::dict d;
  d["grid"] = py::make_tuple(s.grid_x, s.grid_y, 1);
  d["block"] = s.block;
  d["shared"] = s.shared_bytes;
  return d;
}

template <class T>
py::bytes raw_bytes(const std::vector<T>& v) {
  return py::bytes(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
}

inline py::dict plan_forward(int64_t rows, int32_t x, int32_t w, const std::vector<int64_t>& offsets, int64_t k,
                             int64_t skip, int64_t blocks) {
  const cuda::ForwardPlan plan =
      cuda::plan_forward(rows, static_cast<cuda::DType>(x), static_cast<cuda::DType>(w), offsets.data(),
                         static_cast<int64_t>(offsets.size()) - 1, k, skip, blocks);
  py::dict d;
  d["norms"] = shape_dict(plan.norms);
  d["order"] = shape_dict(plan.order);
  d["target"] = shape_dict(plan.target);
  d["sweep"] = shape_dict(plan.sweep);
  d["merge"] = shape_dict(plan.merge);
  d["splits"] = plan.splits;
  d["list_length"] = plan.list_length;
  d["queue_length"] = plan.queue_length;
  d["segment_count"] = plan.segments.size();
  d["segments"] = raw_bytes(plan.segments);
  d["split_begin"] = raw_bytes(plan.split_begin);
  d["basket_begin"] = raw_bytes(plan.basket_begin);
  return d;
}

// Moves the values of a dict into the fields of a struct by name; pointers are integers.
class Fields {
 public:
  explicit Fields(const py::dict& values) : values_(values) {}
  template <class T>
  void set(const char* name, T& field) {
    if (!values_.contains(name)) throw py::key_error(name);
    const py::object value = values_[name];
    ++used_;
    if constexpr (std::is_pointer_v<T>)
      field = reinterpret_cast<T>(value.cast<uintptr_t>());
    else if constexpr (std::is_same_v<T, cuda::Matrix>) {
      const auto v = value.cast<std::tuple<uintptr_t, int64_t, int64_t>>();
      field = {reinterpret_cast<const void*>(std::get<0>(v)), std::get<1>(v), std::get<2>(v)};
    } else
      field = value.cast<T>();
  }
  void done() const {
    if (used_ != values_.size()) throw py::key_error("a name that the parameters do not have");
  }

 private:
  const py::dict& values_;
  size_t used_ = 0;
};

// The bytes of the kernels' argument. Padding is zero.
inline py::bytes pack_forward(const py::dict& values) {
  cuda::ForwardParams p;
  std::memset(static_cast<void*>(&p), 0, sizeof p);
  Fields f(values);
#define BBS_FIELD(name) f.set(#name, p.name)
  BBS_FIELD(x), BBS_FIELD(w), BBS_FIELD(labels), BBS_FIELD(offsets), BBS_FIELD(aliases), BBS_FIELD(guard_rows);
  BBS_FIELD(segments), BBS_FIELD(split_begin), BBS_FIELD(basket_begin);
  BBS_FIELD(inv_norm), BBS_FIELD(row_basket), BBS_FIELD(order), BBS_FIELD(counts), BBS_FIELD(pairs);
  BBS_FIELD(queues), BBS_FIELD(lists), BBS_FIELD(mates);
  BBS_FIELD(cos_target), BBS_FIELD(lse), BBS_FIELD(mined_idx), BBS_FIELD(mined_cos), BBS_FIELD(bad_label);
  BBS_FIELD(ignore_index), BBS_FIELD(classes), BBS_FIELD(list_length);
  BBS_FIELD(rows), BBS_FIELD(depth), BBS_FIELD(baskets), BBS_FIELD(splits), BBS_FIELD(segment_count);
  BBS_FIELD(rule), BBS_FIELD(guard_kind), BBS_FIELD(k), BBS_FIELD(skip), BBS_FIELD(guard_value), BBS_FIELD(scale);
#undef BBS_FIELD
  f.done();
  return py::bytes(reinterpret_cast<const char*>(&p), sizeof p);
}

inline void bind_cuda_plan(py::module_& m) {
  m.def("plan_forward", &plan_forward, py::arg("rows"), py::arg("x_dtype"), py::arg("w_dtype"), py::arg("offsets"),
        py::arg("k"), py::arg("skip"), py::arg("blocks"),
        "Grids, shared memory, workspace sizes and tables of a CUDA forward; dtypes 0: fp32, 1: fp16, 2: bf16.");
  m.def("pack_forward", &pack_forward, py::arg("values"), "The bytes of the forward kernels' argument.");
}

}  // namespace bbs::python
