#include "kept_tensor.h"

#include <torch/csrc/stable/ops.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "../cpu/block_pool.h"

// torch 2.11's, looked up when the library is loaded and null in torch 2.10, which the rest of this library is for.
extern "C" __attribute__((weak, visibility("default"))) AOTITorchError torch_from_blob(
    void* data, int64_t dims, const int64_t* sizes, const int64_t* strides, int64_t offset, int32_t dtype,
    int32_t device_type, int32_t device_index, AtenTensorHandle* result, int32_t layout, const uint8_t* metadata,
    int64_t metadata_size, void (*deleter)(void* data, void* context), void* context);

namespace bbs::ops {
namespace {

using cpu::BlockPool;

// Trivially destroyed: a tensor that outlives this library's other statics still finds its pool.
BlockPool gradients;
BlockPool stashes;

template <BlockPool& pool>
void give_back(void*, void* block) {
  pool.give(static_cast<BlockPool::Block*>(block));
}

bool keeps_blocks() {
  static const bool keeps = [] {
    const char* wanted = std::getenv("BBS_KEEP_BLOCKS");
    check(!wanted || !std::strcmp(wanted, "0") || !std::strcmp(wanted, "1"), "BBS_KEEP_BLOCKS: expected 0 or 1, got '",
          wanted ? wanted : "", "'");
    return torch_from_blob && !(wanted && *wanted == '0');
  }();
  return keeps;
}

}  // namespace

Tensor new_kept(Kept kind, const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType type) {
  const std::vector<int64_t> shape(sizes);
  std::vector<int64_t> strides(shape.size());
  int64_t count = 1;
  for (size_t d = shape.size(); d-- > 0; count *= shape[d]) strides[d] = count;
  const int64_t item = type == ScalarType::Double ? 8 : is_half(type) ? 2 : 4;
  const size_t bytes = static_cast<size_t>(count * item);
  if (bytes < BlockPool::kSmallest || !keeps_blocks()) return torch::stable::new_empty(like, shape, type);

  BlockPool& pool = kind == Kept::gradient ? gradients : stashes;
  BlockPool::Block* block = pool.take(bytes);
  AtenTensorHandle tensor = nullptr;
  const AOTITorchError failed =
      torch_from_blob(block->data, static_cast<int64_t>(shape.size()), shape.data(), strides.data(), 0,
                      torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)),
                      aoti_torch_device_type_cpu(), -1, &tensor, aoti_torch_layout_strided(), nullptr, 0,
                      kind == Kept::gradient ? &give_back<gradients> : &give_back<stashes>, block);
  if (failed) {
    pool.give(block);
    check(false, "torch_from_blob failed for a tensor of ", bytes, " bytes");
  }
  return Tensor(tensor);
}

int64_t release_workspace() { return static_cast<int64_t>(gradients.release() + stashes.release()); }

}  // namespace bbs::ops
