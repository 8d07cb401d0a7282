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

BBS_HOST_DEVICE constexpr int w_tile_bytes(int operand_bytes, int stored_bytes) {
  return kTileN * (kRowBytes / operand_bytes) * stored_bytes;
}

// Rows of w's memory between the copies of a thread; kStep of WLoader, which steps over them in 32 bits of bytes.
BBS_HOST_DEVICE constexpr int w_pass_rows(int operand_bytes, int stored_bytes, bool transposed) {
  const int row = transposed ? kTileN : kRowBytes / operand_bytes;  // elements of a tile's row
  return kThreads / (row / (16 / stored_bytes));
}

// Stages of the ring. Where fp32 centres are converted, the ring holds x only, and w passes through two buffers as
// stored and two as multiplied: what is copied 16 KB at a time does not fit 99 KB four times.
BBS_HOST_DEVICE constexpr int ring_stages(bool converts) { return converts ? 3 : 4; }
BBS_HOST_DEVICE constexpr int stage_bytes(int operand_bytes, bool converts, bool resident) {
  return (converts ? 0 : w_tile_bytes(operand_bytes, operand_bytes)) + (resident ? 0 : kXTileBytes);
}
BBS_HOST_DEVICE constexpr int tile_bytes(int operand_bytes, int stored_bytes, bool resident) {
  const bool converts = operand_bytes != stored_bytes;
  return ring_stages(converts) * stage_bytes(operand_bytes, converts, resident) +
         (converts ? 2 * (w_tile_bytes(operand_bytes, stored_bytes) + w_tile_bytes(operand_bytes, operand_bytes)) : 0);
}
// What a few rows of cosines take while the nearest centres of their classes are found. Rows are 8 banks apart, so that
// the fragments of a tensor-core warp fall into different ones.
constexpr int kNearestRow = kTileN + 8;
constexpr int kNearestBytes = 16 * kNearestRow * 4;

// A 16-byte copy of a transposed w starts at a multiple of this many classes.
BBS_HOST_DEVICE constexpr int class_align(bool transposed, int w_bytes) { return transposed ? 16 / w_bytes : 1; }
// Centres from a tile to the next. With several to a class it is whole classes and whole 16-byte chunks, and leaves
// room for the centres that the first chunk begins with too early.
BBS_HOST_DEVICE constexpr int tile_step(int subcenters, int align) {
  if (subcenters == 1) return kTileN;
  int both = subcenters;
  while (both % align != 0) both += subcenters;
  return (kTileN - (align - 1)) / both * both;
}
BBS_HOST_DEVICE constexpr int k_tiles(int dim, int operand_bytes) {
  return (dim * operand_bytes + kRowBytes - 1) / kRowBytes;
}

}  // namespace bbs::cuda
