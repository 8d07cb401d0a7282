// Memory of a large output, kept when the output is freed and handed out again for the next one of the same size. A
// fresh block of 176 MB costs 43,000 page faults, a tenth of a second in every training step, since the optimiser
// frees the gradient that backward made. At most one block is kept; a request for another size gives it back.
// One atomic pointer and no lock: safe on any thread, in a forked child, and while statics are destroyed at exit.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bbs::cpu {

class BlockPool {
 public:
  struct Block {
    void* data;
    size_t bytes;
  };

  // What is smaller stays on glibc's heap when it is freed (its mmap threshold grows no further than this).
  static constexpr size_t kSmallest = size_t{32} << 20;

  constexpr BlockPool() = default;
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // The kept block if it has this size, else a new one. Contents are not defined.
  Block* take(size_t bytes) {
    Block* kept = kept_.exchange(nullptr);
    if (kept && kept->bytes == bytes) return kept;
    destroy(kept);
    return create(bytes);
  }

  // Keeps a block that take() gave, in place of what was kept.
  void give(Block* block) { destroy(kept_.exchange(block)); }

  // Gives the kept block back to the system; returns its size.
  size_t release() {
    Block* kept = kept_.exchange(nullptr);
    const size_t bytes = kept ? kept->bytes : 0;
    destroy(kept);
    return bytes;
  }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  static Block* create(size_t bytes) {
    const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    auto block = std::make_unique<Block>(Block{nullptr, bytes});
    block->data = std::aligned_alloc(kHugePage, whole);
    if (!block->data) throw std::bad_alloc();
#if defined(__linux__)
    madvise(block->data, whole, MADV_HUGEPAGE);  // 512 times fewer faults, once; refused where huge pages are off
#endif
    return block.release();
  }

  static void destroy(Block* block) {
    if (!block) return;
    std::free(block->data);
    delete block;
  }

  std::atomic<Block*> kept_{nullptr};
};

}  // namespace bbs::cpu
