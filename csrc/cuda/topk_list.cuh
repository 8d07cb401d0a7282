// A row's list of its best keys in one basket, kept by whole warps. New candidates wait in a buffer; now and then a
// warp sorts them and merges them into the sorted list (bitonic networks, keys in registers: key 32 i + lane is
// register i of a lane). The last key of a full list is the row's threshold.
#pragma once

#include "../common/topk_key.h"
#include "tile_layout.cuh"

namespace bbs::cuda {

constexpr int kKeys = 4;               // registers of a lane: 128 keys a warp
constexpr int kListKeys = 32 * kKeys;  // the longest list
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ TopkKey larger(TopkKey a, TopkKey b) { return a > b ? a : b; }
__device__ __forceinline__ TopkKey smaller(TopkKey a, TopkKey b) { return a > b ? b : a; }

// One compare-exchange of every key with the key `stride` away; descending where the key's bit `size` is 0.
template <int count>
__device__ __forceinline__ void exchange(TopkKey (&key)[count], int size, int stride, int lane) {
  if (stride >= 32) {
    const int step = stride / 32;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (i & step) continue;
      const bool descending = ((i * 32) & size) == 0;
      const TopkKey a = key[i], b = key[(i | step) % count];
      key[i] = descending ? larger(a, b) : smaller(a, b);
      key[(i | step) % count] = descending ? smaller(a, b) : larger(a, b);
    }
  } else {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const TopkKey other = __shfl_xor_sync(kAllLanes, key[i], stride);
      const bool descending = ((i * 32 + lane) & size) == 0;
      const bool keep_larger = descending == ((lane & stride) == 0);
      key[i] = keep_larger ? larger(key[i], other) : smaller(key[i], other);
    }
  }
}

template <int count>
__device__ __forceinline__ void sort_descending(TopkKey (&key)[count], int lane) {
#pragma unroll
  for (int size = 2; size <= 32 * count; size *= 2)
#pragma unroll
    for (int stride = size / 2; stride > 0; stride /= 2) exchange(key, size == 32 * count ? 0 : size, stride, lane);
}

// list := the best of list and other, both sorted descending.
template <int count>
__device__ __forceinline__ void merge_best(TopkKey (&list)[count], const TopkKey (&other)[count], int lane) {
#pragma unroll
  for (int i = 0; i < count; ++i)
    list[i] = larger(list[i], __shfl_xor_sync(kAllLanes, other[count - 1 - i], 31));  // key n meets key last - n
#pragma unroll
  for (int stride = 16 * count; stride > 0; stride /= 2) exchange(list, 0, stride, lane);
}

__device__ __forceinline__ void load_keys(TopkKey (&key)[kKeys], const TopkKey* from, int count, int lane) {
#pragma unroll
  for (int i = 0; i < kKeys; ++i) key[i] = i * 32 + lane < count ? from[i * 32 + lane] : kNoKey;
}

// Key n of a list, n the same for all lanes. Comparisons in place of an index, which would put the keys into memory.
__device__ __forceinline__ TopkKey key_at(const TopkKey (&key)[kKeys], int n) {
  static_assert(kKeys == 4, "two levels of choice");
  const TopkKey low = n < 32 ? key[0] : key[1], high = n < 96 ? key[2] : key[3];
  return __shfl_sync(kAllLanes, n < 64 ? low : high, n % 32);
}

// Takes `waiting` candidates into a list of which `listed` keys exist, and writes all `length` keys back.
// Returns the last key: kNoKey while the list is not full.
__device__ __forceinline__ TopkKey absorb(TopkKey* list, int listed, int length, const TopkKey* pending, int waiting,
                                          int lane) {
  TopkKey best[kKeys];
  load_keys(best, list, listed, lane);
  for (int done = 0; done < waiting; done += kListKeys) {
    const int count = waiting - done;
    TopkKey fresh[kKeys];
    load_keys(fresh, pending + done, count, lane);
    if (count <= 32) {
      TopkKey few[1] = {fresh[0]};
      sort_descending(few, lane);
      fresh[0] = few[0];
    } else {
      sort_descending(fresh, lane);
    }
    merge_best(best, fresh, lane);
  }
#pragma unroll
  for (int i = 0; i < kKeys; ++i)
    if (i * 32 + lane < length) list[i * 32 + lane] = best[i];
  return key_at(best, length - 1);
}

}  // namespace bbs::cuda
