// Tensors on memory of a BlockPool: gradients of the centres and the stash, which are the same size in every step and
// whose pages would otherwise be faulted in again each time. A freed tensor's block waits for the next one.
#pragma once

#include <cstdint>

#include "checks.h"

namespace bbs::ops {

enum class Kept { gradient, stash };  // one block of each is kept

// A new [sizes] tensor of uninitialised values on the CPU: from the pool if it is large, else like new_empty. torch
// 2.10 cannot take memory with a deleter, and BBS_KEEP_BLOCKS=0 asks for none: new_empty then as well.
Tensor new_kept(Kept kind, const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType type);

// Gives what is kept back to the system; returns its bytes.
int64_t release_workspace();

}  // namespace bbs::ops
