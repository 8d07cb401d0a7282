// Launches of the backward's per-row kernels: row_scale is one block, backward_pairs a block per padded row,
// finish_rows a block per row.
#pragma once

#include "../common/host_device.h"

namespace bbs::cuda {

constexpr int kRowScaleThreads = 512;
constexpr int kPairsThreads = 128;
constexpr int kFinishThreads = 128;

// Elements of a centre that a lane of backward_pairs holds at a time: D up to 512 in one run with many blocks resident,
// D up to 2048 in one run, and above that several runs. By columns, whose 64 addresses would not fit the registers as
// well, runs of 1024.
constexpr int kFewValues = 16;
BBS_HOST_DEVICE constexpr int many_values(bool transposed) { return transposed ? 32 : 64; }
BBS_HOST_DEVICE constexpr int lane_values(int dim, bool transposed) {
  return dim <= kFewValues * 32 ? kFewValues : many_values(transposed);
}

}  // namespace bbs::cuda
