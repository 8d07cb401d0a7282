// What crosses from the op layer into the CPU kernels: raw pointers, strides and a thread callback, nothing of torch.
#pragma once

#include <cstdint>

#include "../common/rule.h"

namespace bbs::cpu {

enum class DType : int32_t { f64, f32, f16, bf16 };

// A matrix of any strides (in elements); a [D, C] parameter seen as [C, D] needs no copy.
struct ConstMatrix {
  const void* data;
  DType dtype;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
};

// A matrix to be written, in the layout of the tensor whose gradient it is; data == nullptr: not wanted.
struct OutMatrix {
  void* data;
  DType dtype;
  int64_t rows, cols;
  int64_t row_stride, col_stride;
};

struct Problem {
  ConstMatrix x;           // [B, D] embeddings
  ConstMatrix w;           // [C * subcenters, D] class centres; those of a class are adjacent rows
  const int64_t* labels;   // [B] class that is the target, or ignore_index; with row_basket negative: not in w
  const int64_t* offsets;  // [K + 1]
  int64_t baskets;         // K
  const int64_t* aliases;  // [C] or null
  const int64_t* row_basket =
      nullptr;  // [B] basket of each row, -1 ignored; null: w holds every target, labels say it all
  const int64_t* row_alias = nullptr;  // [B] alias of each row's class, -1 none; null: aliases[label]
  const int64_t* class_index;          // [C] ascending classes of w that are this problem's, or null: all of them
  const void* guard_rows;              // [B] of the compute type, or null
  int64_t ignore_index;
  double scale;
  RuleParams rule;
  bool mined_in_lse = true;  // false: the lists are returned, and lse is of the own basket alone
  int64_t subcenters = 1;    // r: the cosine of a class is the largest of its r centres

  int64_t classes() const { return w.rows / subcenters; }
  // How many whole classes make a tile of about `centres` centres.
  int64_t tile_classes(int64_t centres) const { return centres > subcenters ? centres / subcenters : 1; }
  // The row of the given matrix w that is this problem's centre `centre`.
  int64_t row_of_centre(int64_t centre) const {
    return class_index ? class_index[centre / subcenters] * subcenters + centre % subcenters : centre;
  }
  bool ignored(int64_t i) const { return row_basket ? row_basket[i] < 0 : labels[i] == ignore_index; }
  int64_t alias_of(int64_t i) const {
    if (row_alias) return row_alias[i];
    return aliases && labels[i] >= 0 ? aliases[labels[i]] : -1;
  }
};

// Runs body(context, i) for i in [0, tasks), possibly on several threads.
struct Parallel {
  int64_t threads;
  void (*run)(int64_t tasks, void (*body)(void* context, int64_t task), void* context);
};

// T: the compute type, double for double inputs, float otherwise.
template <class T>
struct ForwardOut {
  T* lse;              // [B]
  T* cos_target;       // [B]
  int64_t* mined_idx;  // [B, K, k] centres, the nearest of each mined class
  T* mined_cos;        // [B, K, k]
  T* stash;            // [stash_size] cosines for backward, or null with size 0
  int64_t stash_size;
};

template <class T>
struct BackwardIn {
  const T* grad_lse;         // [B]
  const T* grad_cos_target;  // [B]
  const T* lse;              // [B]
  const T* cos_target;       // [B]
  const int64_t* mined_idx;  // [B, K, k] centres
  const T* mined_cos;        // [B, K, k]
  T* stash;                  // what forward kept; only read
  int64_t stash_size;
};

// SGD applied to a tile of W as soon as its gradient is known, in place of writing the gradient: torch.optim.SGD's
// update, operation by operation.
struct SgdStep {
  OutMatrix w;         // updated in place
  OutMatrix momentum;  // updated in place; data == nullptr without momentum
  bool first_step;     // the momentum buffer is not yet filled
  bool nesterov;
  double lr, momentum_factor, dampening, weight_decay;
};

template <class T>
void cos_lse_forward(const Problem& problem, const Parallel& parallel, const ForwardOut<T>& out);

template <class T>
void cos_lse_backward(const Problem& problem, const Parallel& parallel, const BackwardIn<T>& in, const OutMatrix& dx,
                      const OutMatrix& dw, const SgdStep* sgd);

// cos_target[i] = cosine of row i and its label's centre, 0 at ignored rows; the bits of the full sweep.
template <class T>
void target_cosines(const Problem& problem, const Parallel& parallel, T* cos_target);

}  // namespace bbs::cpu
