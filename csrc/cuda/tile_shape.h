// Sizes that the kernels and the launch plan agree on.
#pragma once

#include "../common/host_device.h"

namespace bbs::cuda {

constexpr int kTileM = 128;    // rows of x in a block
constexpr int kTileN = 128;    // classes in a tile
constexpr int kRowBytes = 64;  // of the operand type, per row and k-tile: two k-steps of the tensor core
constexpr int kKSteps = 2;
constexpr int kXTileBytes = kTileM * kRowBytes;
constexpr int kThreads = 128;  // of a sweep block: four warps of 64 x 64

constexpr int kPrepareThreads = 128;
constexpr int kPrepareRows = 32;  // rows of a prepare block: 8 per warp with tensor cores
constexpr int kMergeThreads = 128;

// Candidates of a row that may wait after a tile: one per lane sorts fastest. A tile may add one per class.
constexpr int kPendingLimit = 32;
constexpr int kPendingCapacity = kPendingLimit + kTileN;

// Stages of the ring. fp32 classes with a 16-bit x take 16 KB a stage: a fourth would not fit 99 KB.
BBS_HOST_DEVICE constexpr int ring_stages(bool converts) { return converts ? 3 : 4; }
BBS_HOST_DEVICE constexpr int w_tile_bytes(int operand_bytes, int w_bytes) {
  return kTileN * (kRowBytes / operand_bytes) * w_bytes;
}
// A 16-byte copy of a transposed w starts at a multiple of this many classes.
BBS_HOST_DEVICE constexpr int class_align(bool transposed, int w_bytes) { return transposed ? 16 / w_bytes : 1; }
BBS_HOST_DEVICE constexpr int k_tiles(int dim, int operand_bytes) {
  return (dim * operand_bytes + kRowBytes - 1) / kRowBytes;
}

}  // namespace bbs::cuda
