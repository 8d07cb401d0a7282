// Search in ascending offsets on one thread. With empty baskets several begin at the same value: the last one holds it.
#pragma once

#include "../common/host_device.h"

namespace bbs::cuda {

// The last n in low ... high with begin[n] <= value; low if there is none.
template <class Offset, class Value>
__device__ __forceinline__ int last_not_after(const Offset* begin, int low, int high, Value value) {
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (begin[middle] <= value)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace bbs::cuda
