// The small integer tables of a launch on the device. They depend on how classes are cut only, so they are
// copied once and kept: a step makes no host-to-device copy, and a captured graph finds them in place.
#pragma once

#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "../cuda/plan.h"
#include "../cuda/runtime/device.h"
#include "checks.h"

namespace bbs::ops {

struct Tables {
  Tensor offsets;     // [K + 1] int64
  Tensor tile_begin;  // [K + 1] int32
};

template <class T>
Tensor to_device(const std::vector<T>& values, ScalarType type, const torch::stable::Device& device) {
  Tensor host = torch::stable::empty({static_cast<int64_t>(values.size())}, type);
  std::memcpy(host.data_ptr(), values.data(), values.size() * sizeof(T));
  return torch::stable::to(host, std::nullopt, std::nullopt, device);
}

// `offsets` of centres; the tables come to the device of `like`. While `stream` is captured nothing can be copied.
inline Tables tables_of(const std::vector<int64_t>& offsets, int32_t align, int32_t subcenters, const Tensor& like,
                        int32_t device_index, cuda::Stream stream) {
  static std::mutex mutex;
  static auto* const kept = new std::map<std::vector<int64_t>, Tables>;  // never emptied: graphs hold the addresses
  std::vector<int64_t> key = {device_index, align, subcenters};
  key.insert(key.end(), offsets.begin(), offsets.end());
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = kept->find(key);
  if (found != kept->end()) return found->second;
  check(!cuda::is_capturing(stream),
        "a CUDA graph is being captured, and no call with these offsets and this layout of w has run on the device: "
        "run one step before the capture");
  std::vector<int32_t> tile_begin(offsets.size());
  cuda::plan_tiles(offsets.data(), static_cast<int32_t>(offsets.size()) - 1, align, subcenters, tile_begin.data());
  const torch::stable::Device device = like.device();
  const Tables made = {to_device(offsets, ScalarType::Long, device), to_device(tile_begin, ScalarType::Int, device)};
  return kept->emplace(std::move(key), made).first->second;
}

}  // namespace bbs::ops
