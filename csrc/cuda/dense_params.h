// What crosses from the host into the dense kernels of the backward, one struct per launch. A run is a range of class
// tiles whose coefficients fit the workspace; a run column is a class of the run: 128 (tile - first_tile) + column.
#pragma once

#include "backward_params.h"
#include "sweep_shared.h"

namespace bbs::cuda {

// Shared memory behind the tile, of which the launch plan needs the sizes.
struct CoefficientState {
  SweepState sweep;
  float lse[kTileM];  // +inf where the row gives nothing
  float factor[kTileM];
  float row_dot[2][kTileM];    // by column group
  float class_dot[4][kTileN];  // by row group
};
struct ClassState {
  int64_t pair_begin[kTileN], pair_end[kTileN];  // of its pairs in `sorted`
  float inverse[kTileN];
  float dot[kTileN];
};
constexpr int kStagingBytes = kTileM * kTileN * 4;  // a tile in fp32
BBS_HOST_DEVICE constexpr int coefficient_buffer(int operand_bytes, int stored_bytes) {
  return tile_bytes(operand_bytes, stored_bytes, false) > kStagingBytes ? tile_bytes(operand_bytes, stored_bytes, false)
                                                                        : kStagingBytes;
}

constexpr int kHatClasses = 32, kHatColumns = 64;  // of a block of normalize_classes

struct DenseRun {
  int32_t first_tile, tiles;
  int32_t first;    // the first run writes what the later ones add to
  int32_t columns;  // of the longest run, between rows of p_rows and class_dot
};

struct DenseArrays {
  int32_t* basket_begin;  // [K + 1] sorted position of each basket's first row; the last: rows that take part
  // Of one run. Only the 128 x 128 parts that pair a tile with a row block that needs it are written, and read.
  void* p_rows;          // [padded rows, columns] p, operand type
  void* p_classes;       // [columns, padded rows] row_factor * p, operand type
  void* w_hat;           // [columns, padded dim] w / norm, operand type
  float* class_inverse;  // [columns] 1 / norm; 0 where the class is no class, 0 or NaN
  float* class_dot;      // [row blocks, columns] sum over the block's rows of row_factor * p * c
  float* row_dot;        // [tiles, padded rows] sum over the tile's classes of p * c
  // Of the whole call.
  float* dx_partials;   // [splits, B, padded dim] by position, summed over runs
  float* dot_partials;  // [splits, B]
  void* dw;             // [C, D] in the type and the stride order of w
  int64_t dw_stride;    // elements between its rows, or between its columns when transposed
  int32_t dw_vectors;   // rows of the memory of w and of dw start on 16 bytes
  int32_t splits;
  int32_t need_dx, need_dw;
};

struct DenseParams {
  ForwardParams forward;
  BackwardRows rows;
  DenseArrays dense;
  DenseRun run;
};

}  // namespace bbs::cuda
