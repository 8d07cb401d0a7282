// Threads without losing determinism: tasks come from a counter in ascending order, and what must be added up is
// added in task order, whichever thread computed it.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "types.h"

namespace bbs::cpu {

// body(worker, next) runs once per worker; next() hands out 0, 1, … tasks - 1 and then -1.
template <class Body>
void for_each_worker(const Parallel& parallel, int64_t tasks, Body&& body) {
  if (tasks == 0) return;
  struct Shared {
    std::atomic<int64_t> counter{0};
    int64_t tasks;
    Body* body;
  } shared{{0}, tasks, &body};
  const int64_t workers = std::min(std::max<int64_t>(parallel.threads, 1), tasks);
  parallel.run(
      workers,
      [](void* context, int64_t worker) {
        auto* s = static_cast<Shared*>(context);
        (*s->body)(worker, [s] {
          const int64_t task = s->counter.fetch_add(1);
          return task < s->tasks ? task : int64_t{-1};
        });
      },
      &shared);
}

// body(task) for every task, in any order.
template <class Body>
void for_each_task(const Parallel& parallel, int64_t tasks, Body&& body) {
  for_each_worker(parallel, tasks, [&](int64_t, auto next) {
    for (int64_t task = next(); task >= 0; task = next()) body(task);
  });
}

// Runs f in the turn of `task`: after all lower tasks' turns. The lowest unfinished task never waits, so nobody
// waits for ever; a task that throws still takes its turn (see Turn's destructor) and the others see the failure.
class Turns {
 public:
  class Turn {
   public:
    Turn(Turns& turns, int64_t task) : turns_(turns), task_(task) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { finish(); }

    template <class F>
    void take(F&& f) {
      wait();
      f();
      finish();
    }

   private:
    void wait() {
      std::unique_lock<std::mutex> lock(turns_.mutex_);
      turns_.changed_.wait(lock, [&] { return turns_.next_ == task_; });
    }
    void finish() {
      if (done_) return;
      wait();
      {
        std::lock_guard<std::mutex> lock(turns_.mutex_);
        ++turns_.next_;
      }
      turns_.changed_.notify_all();
      done_ = true;
    }
    Turns& turns_;
    int64_t task_;
    bool done_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t next_ = 0;
};

}  // namespace bbs::cpu
