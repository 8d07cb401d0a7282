// The small integer tables of a launch plan on the device. They depend on offsets, splits and the list length only, so
// they are copied once and kept: a step makes no host-to-device copy, and a captured graph finds them in place.
#pragma once

#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "../cuda/plan.h"
#include "checks.h"

namespace bbs::ops {

struct Tables {
  Tensor ints;                        // segments, split_begin, basket_begin
  Tensor offsets;                     // int64
  int64_t split_begin, basket_begin;  // positions in ints
};

template <class T>
Tensor to_device(const std::vector<T>& values, ScalarType type, const torch::stable::Device& device) {
  Tensor host = torch::stable::empty({static_cast<int64_t>(values.size())}, type);
  std::memcpy(host.data_ptr(), values.data(), values.size() * sizeof(T));
  return torch::stable::to(host, std::nullopt, std::nullopt, device);
}

inline Tables make_tables(const cuda::ForwardPlan& plan, const std::vector<int64_t>& offsets,
                          const torch::stable::Device& device) {
  constexpr int64_t kInts = sizeof(cuda::Segment) / sizeof(int32_t);
  const auto segments = static_cast<int64_t>(plan.segments.size());
  std::vector<int32_t> ints(segments * kInts);
  if (segments > 0) std::memcpy(ints.data(), plan.segments.data(), ints.size() * sizeof(int32_t));
  ints.insert(ints.end(), plan.split_begin.begin(), plan.split_begin.end());
  ints.insert(ints.end(), plan.basket_begin.begin(), plan.basket_begin.end());
  return {to_device(ints, ScalarType::Int, device), to_device(offsets, ScalarType::Long, device), segments * kInts,
          segments * kInts + static_cast<int64_t>(plan.split_begin.size())};
}

inline Tables tables_of(const cuda::ForwardPlan& plan, const std::vector<int64_t>& offsets, int64_t listed,
                        const torch::stable::Device& device) {
  constexpr size_t kKept = 256;
  static std::mutex mutex;
  static auto* const kept = new std::map<std::vector<int64_t>, Tables>;  // never destroyed: CUDA may be gone by then
  std::vector<int64_t> key = {device.index(), plan.splits, listed};
  key.insert(key.end(), offsets.begin(), offsets.end());
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = kept->find(key);
  if (found != kept->end()) return found->second;
  if (kept->size() >= kKept) kept->clear();
  return kept->emplace(std::move(key), make_tables(plan, offsets, device)).first->second;
}

}  // namespace bbs::ops
