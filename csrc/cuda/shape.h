// The shape of a block's work, fixed for all kernels: 128 rows x 128 classes, 8 warps as 2 x 4, each 64 x 32.
// One shape keeps one epilogue: thread `lane` of a warp owns rows g + 8 i and columns 8 j + 2 t + e of its warp's part
// (g = lane / 4, t = lane % 4), which is the accumulator layout of mma.m16n8.
#pragma once

#include <cstdint>

namespace bbs::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTileM = 128;  // rows of a block
constexpr int kTileN = 128;  // classes of a tile
constexpr int kWarpsM = 2;
constexpr int kWarpsN = 4;
constexpr int kWarpM = kTileM / kWarpsM;
constexpr int kWarpN = kTileN / kWarpsN;

constexpr int kMaxBaskets = 4096;
constexpr int kQueueLength = 512;  // candidate keys of a row: 128 kept, 128 of one tile, and slack between two cuts

}  // namespace bbs::cuda
