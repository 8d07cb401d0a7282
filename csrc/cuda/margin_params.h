// What crosses into the merge that makes losses: the forward's parameters, the margin, and where the rows' losses go.
#pragma once

#include "../common/combined_margin.h"
#include "params.h"

namespace bbs::cuda {

// By row. The gradients are those of the row's own loss; autograd multiplies them with what comes from above.
struct RowLosses {
  float* loss;        // [B]
  float* grad_lse;    // [B]
  float* grad_cos_t;  // [B]
};

struct MarginParams {
  ForwardParams forward;
  CombinedMargin<float> margin;
  RowLosses out;
};

}  // namespace bbs::cuda
