// The block pool under real threads: no block is ever in two hands, and at most one is kept.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "../../csrc/cpu/block_pool.h"

namespace {

using bbs::cpu::BlockPool;

int failures = 0;

void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("FAILED %s\n", what);
  ++failures;
}

void one_thread() {
  BlockPool pool;
  BlockPool::Block* a = pool.take(1000);
  BlockPool::Block* b = pool.take(1000);
  expect(a->data != b->data, "two blocks in use are two");
  void* const last = b->data;
  pool.give(a);
  pool.give(b);  // a is freed
  BlockPool::Block* c = pool.take(1000);
  expect(c->data == last, "the last one given back is handed out");
  expect(pool.release() == 0, "nothing is kept beside it");
  pool.give(c);
  BlockPool::Block* d = pool.take(2000);  // frees c: another size
  expect(pool.release() == 0, "another size gives the kept block back");
  std::memset(d->data, 1, 2000);
  pool.give(d);
  expect(pool.release() == 2000, "release says how much");
  expect(pool.release() == 0, "and releases once");
}

// Every thread marks the blocks that it holds; whoever finds another mark holds a block that is not its own.
void many_threads() {
  constexpr int kThreads = 4;
  BlockPool pool;
  int wrong[kThreads] = {};
  std::vector<std::thread> threads;
  for (int mine = 0; mine < kThreads; ++mine)
    threads.emplace_back([&pool, &wrong, mine] {
      for (int i = 0; i < 2000; ++i) {
        BlockPool::Block* block = pool.take(i % 16 == 0 ? 64 : 128);
        std::memset(block->data, mine + 1, block->bytes);
        if (i % 7 == 0) std::this_thread::yield();
        const auto* bytes = static_cast<const unsigned char*>(block->data);
        wrong[mine] += bytes[0] != mine + 1 || bytes[block->bytes - 1] != mine + 1;
        pool.give(block);
        if (i % 64 == 0) pool.release();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (int count : wrong) expect(count == 0, "a block was in two hands");
  pool.release();
}

}  // namespace

int main() {
  one_thread();
  many_threads();
  std::printf("block pool: %d failed\n", failures);
  return failures != 0;
}
